"""Plain straight-through: a sample with the gradient of its mean."""

from __future__ import annotations

from typing import final

from torch import Tensor

from estimators.base import Estimate, Estimator, Proposal, space_of
from estimators.draws import Draws
from estimators.pairs import Latents
from estimators.spaces import SpaceName


@final
class StraightThrough(Estimator):
    r"""Straight-through: decodes a sample z, and differentiates as if it were its mean, the probabilities.

    .. math:: \nabla L \approx \nabla \ell(z) + \nabla_z \ell(z) \cdot \nabla \mathbb{E}_q[z], \qquad z \sim q

    Decoder calls: 1. Biased, but exact where the loss is linear in z.

    Choose it as the simplest thing that trains. ReinMax costs the same, is exact for quadratic losses too, and has more
    variance.

    Args:
        space: ``categorical`` or ``bit_vector``.

    References:
        - Bengio, Léonard and Courville (2013), Estimating or propagating gradients through stochastic neurons,
          https://arxiv.org/abs/1308.3432.
    """

    unbiased = False
    samples_states = True

    def __init__(self, *, space: SpaceName = "categorical") -> None:
        super().__init__()
        self.space = space_of(space)

    def probabilities(self, scores: Tensor) -> Tensor:
        return self.space(scores).probabilities

    def propose(self, scores: Tensor, draws: Draws, context: Tensor | None = None) -> Proposal:
        q = self.space(scores)
        value = q.vectors(q.sample(draws, 1))[:, 0] + (q.mean - q.mean.detach())
        return Proposal(Latents.relaxed(value), value.new_ones(q.batch_size), q.entropy(), context=context)

    def combine(self, proposal: Proposal, losses: Tensor) -> Estimate:
        return Estimate.of(proposal, surrogate=losses, value=losses)
