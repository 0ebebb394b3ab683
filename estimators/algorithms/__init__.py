"""Gradient estimators: one algorithm, one file."""
