"""Plain straight-through: a sample with the gradient of its mean."""

from __future__ import annotations

from typing import final

from torch import Tensor

from estimators.base import Estimate, Estimator, Proposal
from estimators.draws import Draws
from estimators.pairs import Latents
from estimators.spaces import Space


@final
class StraightThrough(Estimator):
    r"""Straight-through: decodes a sample z, and differentiates as if it were its mean, the probabilities.

    .. math:: \nabla L \approx \nabla \ell(z) + \nabla_z \ell(z) \cdot \nabla \mathbb{E}_q[z], \qquad z \sim q

    Decoder calls: 1. Biased, but exact where the loss is linear in z.

    Choose it as the simplest thing that trains. ReinMax costs the same, is exact for quadratic losses too, and has more
    variance.

    References:
        - Bengio, Léonard and Courville (2013), Estimating or propagating gradients through stochastic neurons,
          https://arxiv.org/abs/1308.3432.
    """

    unbiased = False
    samples_states = True
    uses = frozenset({"sample", "entropy", "noisy_scores"})

    def propose(self, space: Space, draws: Draws, context: Tensor | None = None) -> Proposal:
        mean = space.mean
        value = space.vectors(space.sample(draws, 1))[:, 0] + (mean - mean.detach())
        return Proposal(Latents.relaxed(value), value.new_ones(space.batch_size), space.entropy(), context=context)

    def combine(self, proposal: Proposal, losses: Tensor) -> Estimate:
        return Estimate.of(proposal, surrogate=losses, value=losses)
