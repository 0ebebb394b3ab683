"""Sweeps: many runs of many configurations, wherever they run, each finished once whatever dies in between."""
