"""Dense marginalization: the exact expectation over every state of a softmax distribution."""

from __future__ import annotations

from typing import ClassVar, final

from torch import Tensor

from estimators.base import Estimate, Estimator, Proposal, as_scores
from estimators.categorical import Categorical
from estimators.draws import Draws


@final
class Dense(Estimator):
    r"""Dense marginalization: every state is decoded and weighted by its softmax probability.

    .. math:: L = \sum_{k=1}^{K} \mathrm{softmax}(s)_k \, \ell(k)

    Decoder calls: K. Exact: no bias, no variance.

    References:
        - Correia, Niculae, Aziz and Martins (2020), Efficient marginalization of discrete and structured latent variables
          via sparsity, https://arxiv.org/abs/2007.01919, where it is the dense baseline.
    """

    unbiased: ClassVar[bool] = True

    def probabilities(self, scores: Tensor) -> Tensor:
        return Categorical(as_scores(scores)).probabilities

    def propose(self, scores: Tensor, draws: Draws, context: Tensor | None = None) -> Proposal:
        q = Categorical(as_scores(scores))
        return Proposal(q.enumerate(), q.probabilities.flatten(), q.entropy(), context=context)

    def combine(self, proposal: Proposal, losses: Tensor) -> Estimate:
        value = proposal.latents.sum(proposal.weights * losses)
        return Estimate.of(proposal, surrogate=value, value=value)
