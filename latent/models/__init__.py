"""Latent-variable models of images: tasks for the experiment runner, and modules for plain PyTorch."""

from __future__ import annotations

from latent.models.bit_vector_vae import BitVectorVAE
from latent.models.elbo import elbo
from latent.models.gaussian import Gaussian, Reparameterization
from latent.models.ssvae import SemiSupervisedVAE
from latent.models.vae import VAE

__all__ = ["VAE", "BitVectorVAE", "Gaussian", "Reparameterization", "SemiSupervisedVAE", "elbo"]
