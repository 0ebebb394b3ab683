"""The experiment runner: configurations, runs on disk, checkpoints and tracking."""
