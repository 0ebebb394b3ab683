"""The bit-vector auto-encoder: D bits, and a categorical distribution over 256 grey levels for each pixel."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from estimators import BitVector, Latents, RandomDraws
from latent.datasets import ImageSet
from latent.models.autoencoder import Autoencoder
from latent.models.elbo import ClosedForm, Prior
from latent.models.image_task import check_sizes
from latent.models.metrics import ARGMAX_DISTORTION, BITS_PER_DIM, DISTORTION, ELBO, LOSS, OF_EVIDENCE, RATE
from latent.models.networks import LatentMLP, mlp
from latent.models.pixel_categorical import PixelCategorical
from latent.words import Metric

LEVELS = 256


@final
class BitVectorVAE(Autoencoder):
    r"""The published bit-vector auto-encoder: D bits with a uniform prior, and 256 grey levels for each pixel.

    .. math:: -\mathrm{ELBO}(x) = -E_q\Big[\sum_p \log p(x_p \mid z)\Big] + D \log 2 - H(q)

    Encoder pixels-hidden-D; decoder D-hidden-(pixels x features), then one linear layer features-256 for all pixels.

    Args:
        data: images.
        bits: length of the latent, D.
        hidden_size: units of the hidden layers.
        pixel_features: numbers that a pixel's distribution is made from.
        importance_samples: samples that the evidence of a test image is estimated with; 0 leaves it out.
        importance_images: test images whose evidence is estimated, from the first on; 0 is all.

    Raises:
        OptionError: if an option is out of its range.

    References:
        - Correia, Niculae, Aziz and Martins (2020), section 5.3, https://arxiv.org/abs/2007.01919.
    """

    make = BitVector
    metrics: ClassVar[tuple[Metric, ...]] = (
        replace(BITS_PER_DIM, shown=("table", *BITS_PER_DIM.shown)),  # its results are published as such
        *(ELBO, RATE, DISTORTION, ARGMAX_DISTORTION, *OF_EVIDENCE, LOSS),
    )
    headline: ClassVar[str] = ELBO.name

    def __init__(
        self,
        data: ImageSet,
        *,
        bits: int = 32,
        hidden_size: int = 128,
        pixel_features: int = 5,
        importance_samples: int = 1024,
        importance_images: int = 100,
    ) -> None:
        super().__init__(data, False, importance_samples, importance_images)
        check_sizes(bits=bits, hidden_size=hidden_size, pixel_features=pixel_features)
        self.pixel_features = pixel_features
        self.scores_size = bits
        self.encoder = mlp(self.pixels, hidden_size, bits)
        self.decoder = LatentMLP(bits, (hidden_size,), self.pixels * pixel_features)
        self.likelihood = PixelCategorical(LEVELS, pixel_features)
        self.prior = Prior(BitVector, bits)
        self.divergence = self.exact_divergence = ClosedForm(self.prior)

    def _features(self, latents: Latents) -> Tensor:
        return torch.unflatten(self.decoder(latents), 1, (self.pixels, self.pixel_features))

    def log_likelihood(self, latents: Latents, images: Tensor) -> Tensor:
        log_likelihood: Tensor = self.likelihood(self._features(latents), latents.gather(images))
        return log_likelihood

    def log_prior(self, latents: Latents) -> Tensor:
        return self.prior.log_probability(latents)

    def sample_prior(self, number: int, draws: RandomDraws) -> Latents:
        return self.prior.sample(number, draws)

    def mean_image(self, latents: Latents) -> Tensor:
        # Few images: their logits may be held at once.
        logits = nn.functional.linear(self._features(latents), self.likelihood.weight, self.likelihood.bias)
        return logits.softmax(-1) @ torch.linspace(0, 1, LEVELS, dtype=logits.dtype, device=logits.device)
