"""Certificates: what proves an estimator's gradients against exact ones."""
