"""Dense marginalization: the exact expectation over every state of a softmax distribution."""

from __future__ import annotations

from typing import final

from torch import Tensor

from estimators.base import Estimate, Estimator, Proposal, space_of
from estimators.draws import Draws
from estimators.spaces import SpaceName


@final
class Dense(Estimator):
    r"""Dense marginalization: every state is decoded and weighted by its probability.

    .. math:: L = \sum_{z} q(z) \, \ell(z)

    with q the softmax of the scores of K states, or D independent bits. Decoder calls: K, or 2^D. Exact: no bias, no variance.

    Choose it wherever its calls are affordable: nothing else is as simple, or as good.

    Args:
        space: ``categorical`` or ``bit_vector`` (up to 16 bits; more raise a ValueError that says so).

    References:
        - Correia, Niculae, Aziz and Martins (2020), Efficient marginalization of discrete and structured latent variables
          via sparsity, https://arxiv.org/abs/2007.01919, where it is the dense baseline.
    """

    unbiased = True
    marginalizes = True

    def __init__(self, *, space: SpaceName = "categorical") -> None:
        super().__init__()
        self.space = space_of(space)

    def probabilities(self, scores: Tensor) -> Tensor:
        return self.space(scores).probabilities

    def propose(self, scores: Tensor, draws: Draws, context: Tensor | None = None) -> Proposal:
        q = self.space(scores)
        return Proposal(q.enumerate(), q.probabilities.flatten(), q.entropy(), context=context)

    def combine(self, proposal: Proposal, losses: Tensor) -> Estimate:
        return Estimate.marginal(proposal, losses)
