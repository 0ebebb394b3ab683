"""A variational auto-encoder with one latent variable, whatever it is made of: its objective, evaluation and pictures."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from estimators import Categorical, Estimator, Latents, OptionError, RandomDraws
from latent.models.elbo import Divergence, elbo
from latent.models.evidence import SAMPLES_OF_EXPECTATION, Evidence, evidence, expectation
from latent.models.image_task import ImageTask
from latent.models.pictures import grid

SAMPLED = 64
"""Images of a picture of samples."""


class Autoencoder(ImageTask):
    """An encoder, a prior and a decoder; subclasses say what they are.

    The objective is the negative ELBO; see :func:`latent.models.elbo.elbo`.
    """

    beta = 1.0
    space: Any
    """The kind of latent."""
    divergence: Any
    """What training uses, a :class:`~latent.models.elbo.Divergence`."""
    exact_divergence: Any
    """What evaluation uses: the divergence of q itself, never of a relaxation."""
    size_option: str
    """The option that is the length of the scores of a discrete latent."""
    scores_size: int
    encoder: nn.Module
    """From ``[B, P]`` in [0, 1] to scores."""

    def encode(self, images: Tensor) -> Tensor:
        """Images ``[B, P]``, as they are drawn, to scores ``[B, V]``."""
        return self.encoder(self.as_input(images))

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
        return self.scores_size if self.space is Categorical else SAMPLES_OF_EXPECTATION

    def check_estimator(self, estimator: Estimator) -> None:
        super().check_estimator(estimator)
        if estimator.space is not self.space:
            return  # which is refused elsewhere
        try:  # what it would decode for an image
            estimator.propose(torch.zeros(1, self.scores_size), RandomDraws(torch.Generator().manual_seed(0)))
        except ValueError as error:
            raise OptionError(self.size_option, str(error)) from error

    def draw(self, batch_size: int, generator: torch.Generator) -> Tensor:
        """A batch of training images."""
        return self.pick(self.draw_rows(self.rows["train"], batch_size, generator), generator)

    def forward(
        self, images: Tensor, estimator: Estimator, generator: torch.Generator | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The objective to differentiate, ``[]``, and detached metrics of each image, ``[B]`` each."""
        inputs = self.as_input(images)
        scores = self.encoder(inputs)
        divergence: Divergence = self.divergence
        bound = elbo(
            lambda latents: (-self.log_likelihood(latents, images), divergence.of_pairs(latents, scores)),
            lambda entropy: divergence.of_examples(entropy, scores),
            estimator,
            scores,
            context=inputs,
            generator=generator,
            beta=self.beta,
        )
        return bound.objective.mean() + bound.auxiliary, bound.metrics

    def measure(self, images: Tensor, labels: Tensor, estimator: Estimator, generator: torch.Generator) -> dict[str, Tensor]:
        scores = self.encode(images)
        found = expectation(estimator, scores, RandomDraws(generator))
        divergence: Divergence = self.exact_divergence
        distortion = -found.latents.sum(found.weights * self.log_likelihood(found.latents, images))
        rate = found.latents.sum(found.weights * divergence.of_pairs(found.latents, scores))
        rate = rate + divergence.of_examples(found.entropy, scores)
        return {
            "elbo": -(distortion + rate),
            "distortion": distortion,
            "rate": rate,
            "argmax_distortion": -self.log_likelihood(found.most_likely, images),
            "decoder_calls": found.decoder_calls,
            "entropy": found.entropy,
        }

    def evidence(self, images: Tensor, estimator: Estimator, generator: torch.Generator, samples: int) -> Evidence:
        def log_joint(latents: Latents) -> Tensor:
            return self.log_likelihood(latents, images) + self.log_prior(latents)

        return evidence(estimator, self.encode(images), log_joint, RandomDraws(generator), samples)

    @torch.no_grad()
    def pictures(self, estimator: Estimator) -> dict[str, Tensor]:
        """``samples``: mean images of states drawn from the prior; ``reconstructions``: images above those of their argmax."""
        images, draws = self.pictured(), self.drawing()
        latents = expectation(estimator, self.encode(images), draws).most_likely
        both = torch.cat([self.as_input(images), self.mean_image(latents)]).float()
        samples = self.mean_image(self.sample_prior(SAMPLED, draws)).float()
        return {
            "samples": grid(self.as_image(samples), 8),
            "reconstructions": grid(self.as_image(both), len(images)),
        }
