"""Experiments on models with discrete latent variables: the runner and its command line."""
