"""Dense marginalization: the exact expectation over every state of a softmax distribution."""

from __future__ import annotations

from typing import final

from torch import Tensor

from estimators.base import Estimate, Estimator, Proposal
from estimators.draws import Draws
from estimators.spaces import Space


@final
class Dense(Estimator):
    r"""Dense marginalization: every state is decoded and weighted by its probability.

    .. math:: L = \sum_{z} q(z) \, \ell(z)

    with q the softmax of the scores of K states, or a product of independent variables. Decoder calls: as many as there are
    states, K or 2^D (up to 2^16 of a product). Exact: no bias, no variance.

    Choose it wherever its calls are affordable: nothing else is as simple, or as good.

    References:
        - Correia, Niculae, Aziz and Martins (2020), Efficient marginalization of discrete and structured latent variables
          via sparsity, https://arxiv.org/abs/2007.01919, where it is the dense baseline.
    """

    unbiased = True
    marginalizes = True
    uses = frozenset({"all_states", "log_probability", "entropy"})

    def propose(self, space: Space, draws: Draws, context: Tensor | None = None) -> Proposal:
        return Proposal(space.enumerate(), space.probabilities.flatten(), space.entropy(), context=context)

    def combine(self, proposal: Proposal, losses: Tensor) -> Estimate:
        return Estimate.marginal(proposal, losses)
