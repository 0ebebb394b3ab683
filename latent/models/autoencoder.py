"""A variational auto-encoder with one latent variable, whatever it is made of: its objective, evaluation and pictures."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from estimators import Estimator, Latents, RandomDraws, Space
from estimators.expectations import MOST_DECODED, SAMPLES, Measurement, expectation
from latent.models.elbo import Divergence, elbo
from latent.models.evidence import Evidence, evidence
from latent.models.image_task import ImageTask
from latent.models.pictures import grid

SAMPLED = 64
"""Images of a picture of samples."""


class Autoencoder(ImageTask):
    """An encoder, a prior and a decoder; subclasses say what they are.

    The objective is the negative ELBO; see :func:`latent.models.elbo.elbo`.
    """

    beta = 1.0
    make: Callable[[Tensor], Space]
    """From scores to the latent variable."""
    divergence: Divergence
    """What training uses."""
    exact_divergence: Divergence
    """What evaluation uses: the divergence of q itself, never of a relaxation."""
    scores_size: int
    encoder: nn.Module
    """From ``[B, P]`` in [0, 1] to scores."""

    def encode(self, images: Tensor) -> Space:
        """The latent variable of images ``[B, P]`` as they are drawn."""
        return self.make(self.encoder(self.as_input(images)))

    def latent(self) -> Space:
        return self.make(torch.zeros(1, self.scores_size))

    @abstractmethod
    def log_likelihood(self, latents: Latents, images: Tensor) -> Tensor:
        """``log p(x | z)`` of N pairs, for the images ``[B, P]`` of the examples; ``[N]``."""

    @abstractmethod
    def log_prior(self, latents: Latents) -> Tensor:
        """``log p(z)`` of N pairs, ``[N]``."""

    @abstractmethod
    def sample_prior(self, number: int, draws: RandomDraws) -> Latents:
        """Pairs drawn from the prior."""

    @abstractmethod
    def mean_image(self, latents: Latents) -> Tensor:
        """``[N, P]`` in [0, 1]: the expected image."""

    @property
    def states_of_an_image(self) -> int:
        states = self.latent().states
        return int(states) if states <= MOST_DECODED else SAMPLES

    def draw(self, batch_size: int, generator: torch.Generator) -> Tensor:
        """A batch of training images."""
        return self.pick(self.draw_rows(self.rows["train"], batch_size, generator), generator)

    def forward(
        self, images: Tensor, estimator: Estimator, generator: torch.Generator | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The objective to differentiate, ``[]``, and detached metrics of each image, ``[B]`` each."""
        inputs = self.as_input(images)
        space = self.make(self.encoder(inputs))
        bound = elbo(
            lambda latents: (-self.log_likelihood(latents, images), self.divergence.of_pairs(latents, space)),
            lambda entropy: self.divergence.of_examples(entropy, space),
            estimator,
            space,
            context=inputs,
            generator=generator,
            beta=self.beta,
        )
        return bound.objective.mean() + bound.auxiliary, bound.metrics

    def measure(self, images: Tensor, labels: Tensor, estimator: Estimator, generator: torch.Generator) -> Measurement:
        space = self.encode(images)
        found = expectation(estimator, space, RandomDraws(generator))
        assert isinstance(found.pairs, Latents)
        assert isinstance(found.most_likely, Latents)
        log_likelihood = self.log_likelihood(found.pairs, images)
        divergence = self.exact_divergence.of_pairs(found.pairs, space)
        distortion = -found.of(log_likelihood)
        rate = found.of(divergence) + self.exact_divergence.of_examples(found.entropy, space)
        metrics = {
            "elbo": -(distortion + rate),
            "distortion": distortion,
            "rate": rate,
            "argmax_distortion": -self.log_likelihood(found.most_likely, images),
            "decoder_calls": found.decoder_calls,
            "entropy": found.entropy,
        }
        variances = found.variances(elbo=log_likelihood - divergence, distortion=log_likelihood, rate=divergence)
        return Measurement(metrics, variances, {"state": found.most_likely.value, "label": labels})

    def evidence(self, images: Tensor, estimator: Estimator, generator: torch.Generator, samples: int) -> Evidence:
        def log_joint(latents: Latents) -> Tensor:
            return self.log_likelihood(latents, images) + self.log_prior(latents)

        return evidence(estimator, self.encode(images), log_joint, RandomDraws(generator), samples)

    @torch.no_grad()
    def pictures(self, estimator: Estimator) -> dict[str, Tensor]:
        """``samples``: mean images of states drawn from the prior; ``reconstructions``: images above those of their argmax."""
        images, draws = self.pictured(), self.drawing()
        latents = expectation(estimator, self.encode(images), draws).most_likely
        assert isinstance(latents, Latents)
        both = torch.cat([self.as_input(images), self.mean_image(latents)]).float()
        samples = self.mean_image(self.sample_prior(SAMPLED, draws)).float()
        return {
            "samples": grid(self.as_image(samples), 8),
            "reconstructions": grid(self.as_image(both), len(images)),
        }
