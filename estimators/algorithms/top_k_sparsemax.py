"""Top-k sparsemax: sparse marginalization over the k best states."""

from __future__ import annotations

from typing import final

from torch import Tensor

from estimators.base import Estimate, Estimator, Proposal
from estimators.draws import Draws
from estimators.mappings import alpha_entmax, gini_entropy, support_entropy
from estimators.options import OptionError
from estimators.spaces import Space


@final
class TopKSparsemax(Estimator):
    r"""Top-k sparsemax: the sparsemax of the scores of the k best states; the others have no mass.

    .. math:: q = \arg\min_{p \in \Delta,\; \|p\|_0 \le k} \|p - s\|^2, \qquad L = \sum_{z : q(z) > 0} q(z) \, \ell(z)

    Over bits or several categoricals, the score of a state is the sum of those of its parts, and the k best states are found
    exactly.
    Decoder calls: at most ``k``. Exact for its own q, which is sparsemax over all states as soon as that has no more than k
    in its support; the metric ``saturation`` is the share of examples in which all k states have mass, so that others might.

    Choose it where the states are too many for sparsemax (bit vectors), or its support too large for the decoder.

    Args:
        k: largest support.

    Raises:
        OptionError: if k is out of its range.

    References:
        - Correia, Niculae, Aziz and Martins (2020), Efficient marginalization of discrete and structured latent variables
          via sparsity, https://arxiv.org/abs/2007.01919.
        - Pillutla, Roulet, Kakade and Harchaoui (2018), A smoother way to train structured prediction models,
          https://arxiv.org/abs/1902.03228.
    """

    unbiased = True
    marginalizes = True
    sparse = True
    regulariser = staticmethod(gini_entropy)
    uses = frozenset({"k_best", "score"})

    def __init__(self, *, k: int = 10) -> None:
        super().__init__()
        if k < 1:
            raise OptionError("k", f"must be at least 1, got {k}")
        self.k = k

    def _distribution(self, space: Space) -> tuple[Tensor, Tensor]:
        """The best states, and their probabilities ``[B, S]``."""
        states = space.k_best(self.k)
        return states, alpha_entmax(space.score(states), 2.0)

    def probabilities(self, space: Space) -> Tensor:
        states, q = self._distribution(space)
        return space.scatter(states, q)

    def propose(self, space: Space, draws: Draws, context: Tensor | None = None) -> Proposal:
        states, q = self._distribution(space)
        keep = q.detach() > 0
        saturated = keep.all(1) if q.shape[1] < space.states else keep.new_zeros(len(keep))
        return Proposal(
            space.select(states, keep),
            q[keep],
            support_entropy(q).sum(1),
            context=context,
            metrics={"saturation": saturated.to(q.dtype)},
        )

    def combine(self, proposal: Proposal, losses: Tensor) -> Estimate:
        return Estimate.marginal(proposal, losses)
