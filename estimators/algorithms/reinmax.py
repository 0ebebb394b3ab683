"""ReinMax: straight-through with second-order accuracy."""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor

from estimators.base import Estimate, Estimator, Proposal
from estimators.draws import Draws
from estimators.options import OptionError
from estimators.pairs import Latents
from estimators.spaces import Categorical


def softmax_linearised(scores: Tensor, probabilities: Tensor) -> Tensor:
    """A function of the scores whose Jacobian is that of softmax at ``probabilities``, ``diag(p) - p p^T``; ``[B, K]``."""
    weighted = probabilities * scores
    return weighted - probabilities * weighted.sum(-1, keepdim=True)


@final
class ReinMax(Estimator):
    r"""ReinMax: decodes a sample, with a gradient that is Heun's method where straight-through's is Euler's.

    .. math:: \nabla L \approx \nabla \ell(z) + \nabla_z \ell(z) \cdot
        \big( 2 J(\tfrac{q_\tau + z}{2}) - \tfrac{1}{2} J(q) \big), \qquad J(p) = \mathrm{diag}(p) - p p^\top, \quad z \sim q

    with :math:`q_\tau = \mathrm{softmax}(s / \tau)`. Decoder calls: 1. Biased; at temperature 1 exact for losses that are
    linear or quadratic in z, and there it equals ZGR.

    Choose it for categorical latents where losses are differentiable in z, one-hot samples are to be decoded, and one call
    is all there is.

    Args:
        temperature: temperature of q in the midpoint, above 0; above 1 it trades accuracy for variance.

    Raises:
        OptionError: if the temperature is out of its range.

    References:
        - Liu, Dong, Liu, Yu and Gao (2023), Bridging discrete and backpropagation: straight-through and beyond,
          https://arxiv.org/abs/2304.08612.
    """

    unbiased = False
    samples_states = True

    def __init__(self, *, temperature: float = 1.0) -> None:
        super().__init__()
        if not 0 < temperature < math.inf:
            raise OptionError("temperature", f"must be above 0, got {temperature}")
        self.temperature = temperature

    def probabilities(self, scores: Tensor) -> Tensor:
        return Categorical(scores).probabilities

    def propose(self, scores: Tensor, draws: Draws, context: Tensor | None = None) -> Proposal:
        q = Categorical(scores)
        sample = q.vectors(q.sample(draws, 1))[:, 0]
        probabilities = q.probabilities.detach()
        softened = probabilities if self.temperature == 1 else (q.scores.detach() / self.temperature).softmax(-1)
        finite = q.scores.masked_fill(q.scores == -torch.inf, 0)
        slope = 2 * softmax_linearised(finite, (softened + sample) / 2) - softmax_linearised(finite, probabilities) / 2
        value = sample + (slope - slope.detach())
        return Proposal(Latents.relaxed(value), value.new_ones(q.batch_size), q.entropy(), context=context)

    def combine(self, proposal: Proposal, losses: Tensor) -> Estimate:
        return Estimate.of(proposal, surrogate=losses, value=losses)
