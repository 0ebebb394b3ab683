"""Runs in Weights & Biases: their export, and a workspace that compares them."""
