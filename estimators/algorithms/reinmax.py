"""ReinMax: straight-through with second-order accuracy."""

from __future__ import annotations

import math
from typing import final

from torch import Tensor

from estimators.base import Estimate, Estimator, Proposal
from estimators.draws import Draws
from estimators.options import OptionError
from estimators.pairs import Latents
from estimators.spaces import Space


@final
class ReinMax(Estimator):
    r"""ReinMax: decodes a sample, with a gradient that is Heun's method where straight-through's is Euler's.

    .. math:: \nabla L \approx \nabla \ell(z) + \nabla_z \ell(z) \cdot
        \big( 2 J(\tfrac{q_\tau + z}{2}) - \tfrac{1}{2} J(q) \big), \qquad J(p) = \mathrm{diag}(p) - p p^\top, \quad z \sim q

    with :math:`q_\tau = \mathrm{softmax}(s / \tau)`; of several variables, each has its own J. Decoder calls: 1. Biased; at
    temperature 1 exact where losses are linear or quadratic in z, and there it equals ZGR.

    Choose it where losses are differentiable in z, one-hot samples are to be decoded, and one call
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
    uses = frozenset({"sample", "entropy", "noisy_scores"})

    def __init__(self, *, temperature: float = 1.0) -> None:
        super().__init__()
        if not 0 < temperature < math.inf:
            raise OptionError("temperature", f"must be above 0, got {temperature}")
        self.temperature = temperature

    def propose(self, space: Space, draws: Draws, context: Tensor | None = None) -> Proposal:
        noisy = space.noisy_scores()
        sample = space.vectors(space.sample(draws, 1))[:, 0]
        mean = noisy.mean.detach()
        softened = mean if self.temperature == 1 else noisy.squash(noisy.scores.detach() / self.temperature)
        slope = 2 * noisy.linearised((softened + sample) / 2) - noisy.linearised(mean) / 2
        value = sample + (slope - slope.detach())
        return Proposal(Latents.relaxed(value), value.new_ones(space.batch_size), space.entropy(), context=context)

    def combine(self, proposal: Proposal, losses: Tensor) -> Estimate:
        return Estimate.of(proposal, surrogate=losses, value=losses)
