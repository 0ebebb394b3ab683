"""The variational auto-encoder of binarised images, with a categorical, several, a bit-vector or a Gaussian latent."""

from __future__ import annotations

from functools import partial
from typing import ClassVar, Literal, final

import torch
from torch import Tensor, nn

from estimators import BitVector, Categorical, Categoricals, Estimator, Latents, OptionError, RandomDraws, start_near_zero
from latent.datasets import ImageSet
from latent.models.autoencoder import Autoencoder
from latent.models.elbo import ClosedForm, ClosedFormGaussian, Prior, Relaxed
from latent.models.gaussian import Gaussian, standard_normal_log_density
from latent.models.image_task import check_sizes
from latent.models.metrics import ARGMAX_DISTORTION, BITS_PER_DIM, DISTORTION, ELBO, LOSS, OF_EVIDENCE, RATE
from latent.models.networks import LatentMLP, mlp
from latent.words import Metric

Latent = Literal["categorical", "categoricals", "bit_vector", "gaussian"]


@final
class VAE(Autoencoder):
    r"""A variational auto-encoder: a latent that a Bernoulli decoder turns into an image.

    .. math:: -\mathrm{ELBO}(x) = -E_{q(z \mid x)}[\log p(x \mid z)] + \beta\, KL(q(z \mid x) \,\|\, p(z))

    Encoder and decoder have one hidden layer of ReLUs. Images are binarised afresh whenever they are drawn.

    Args:
        data: images.
        latent: ``categorical``, one variable; ``categoricals``, several; ``bit_vector``; or ``gaussian``, for the estimators
            ``reparameterization`` and ``score_function``, with a standard normal prior.
        latent_size: states of one categorical; the number of several; bits; or dimensions.
        categories: states of each of several categoricals.
        hidden_size: units of the hidden layers.
        prior: ``uniform``, or ``learned`` scores of the categories or bits.
        kl: ``closed_form``, that of q itself; or ``relaxed``, the divergence of the densities of relaxed latents at the
            ones that are decoded, for Gumbel-softmax.
        prior_temperature: temperature of the prior's relaxation with ``kl: relaxed``.
        beta: weight of the KL term; 1 is the ELBO.
        importance_samples: samples that the evidence of a test image is estimated with; 0 leaves it out. A categorical
            latent is enumerated.
        importance_images: test images whose evidence is estimated, from the first on; 0 is all.

    Raises:
        OptionError: if an option is out of its range.

    References:
        - Kingma and Welling (2014), Auto-encoding variational Bayes, https://arxiv.org/abs/1312.6114.
        - Maddison, Mnih and Teh (2017), The Concrete distribution, https://arxiv.org/abs/1611.00712, for the choice of KL.
        - Higgins et al. (2017), beta-VAE, https://openreview.net/forum?id=Sy2fzU9gl.
    """

    metrics: ClassVar[tuple[Metric, ...]] = (ELBO, BITS_PER_DIM, RATE, DISTORTION, ARGMAX_DISTORTION, *OF_EVIDENCE, LOSS)
    headline: ClassVar[str] = ELBO.name

    def __init__(
        self,
        data: ImageSet,
        *,
        latent: Latent = "categorical",
        latent_size: int = 64,
        categories: int = 8,
        hidden_size: int = 256,
        prior: Literal["uniform", "learned"] = "uniform",
        kl: Literal["closed_form", "relaxed"] = "closed_form",
        prior_temperature: float = 0.5,
        beta: float = 1.0,
        importance_samples: int = 128,
        importance_images: int = 1000,
    ) -> None:
        super().__init__(data, True, importance_samples, importance_images)
        check_sizes(latent_size=latent_size, categories=categories, hidden_size=hidden_size)
        if not prior_temperature > 0:
            raise OptionError("prior_temperature", f"must be above 0, got {prior_temperature}")
        if beta < 0:
            raise OptionError("beta", f"must not be negative, got {beta}")
        self.kl, self.beta = kl, beta
        self.latent_size = latent_size
        size = latent_size * categories if latent == "categoricals" else latent_size
        self.scores_size = 2 * size if latent == "gaussian" else size
        self.encoder = mlp(self.pixels, hidden_size, self.scores_size)
        if latent in ("categorical", "categoricals"):
            start_near_zero(self.encoder[-1])
        self.decoder = LatentMLP(size, (hidden_size,), self.pixels)
        if latent == "gaussian":
            for option, chosen, only in (("prior", prior, "uniform"), ("kl", kl, "closed_form")):
                if chosen != only:
                    raise OptionError(option, f"of a gaussian latent there is no {chosen} one")
            self.make = Gaussian
            self.divergence = self.exact_divergence = ClosedFormGaussian()
        else:
            kinds = {"categorical": Categorical, "bit_vector": BitVector}
            self.make = kinds.get(latent, partial(Categoricals, categories=categories))
            self.prior = Prior(self.make, size, prior == "learned")
            self.exact_divergence = ClosedForm(self.prior)
            self.divergence = Relaxed(self.prior, prior_temperature) if kl == "relaxed" else self.exact_divergence

    def check_estimator(self, estimator: Estimator) -> None:
        super().check_estimator(estimator)
        if self.beta != 1 and estimator.holds_entropy:
            raise OptionError("beta", f"must be 1 for a bound that holds the entropy of q, got {self.beta}")
        if self.kl == "relaxed" and not estimator.relaxes:
            message = "relaxed needs an estimator that decodes relaxed latents, such as gumbel_softmax"
            raise OptionError("kl", message)

    def log_likelihood(self, latents: Latents, images: Tensor) -> Tensor:
        logits = self.decoder(latents)
        return bernoulli_log_likelihood(logits, latents.gather(images))

    def log_prior(self, latents: Latents) -> Tensor:
        if self.make is Gaussian:
            return standard_normal_log_density(latents.value)
        return self.prior.log_probability(latents)

    def sample_prior(self, number: int, draws: RandomDraws) -> Latents:
        device = self.levels.device
        if self.make is Gaussian:
            return Latents.relaxed(draws.normal(torch.empty(number, self.latent_size, device=device)))
        return self.prior.sample(number, draws)

    def mean_image(self, latents: Latents) -> Tensor:
        logits: Tensor = self.decoder(latents)
        return logits.sigmoid()


def bernoulli_log_likelihood(logits: Tensor, bits: Tensor) -> Tensor:
    """``sum_p log p(x_p)`` of independent bits ``[N, P]`` with these logits, ``[N]``."""
    return -nn.functional.binary_cross_entropy_with_logits(logits, bits.to(logits.dtype), reduction="none").sum(1)
