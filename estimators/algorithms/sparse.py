"""Sparse marginalization: the exact expectation over the few states to which a sparse mapping gives any mass."""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor, nn

from estimators.base import Estimate, Estimator, Proposal
from estimators.draws import Draws
from estimators.mappings import SMALLEST_EXCESS, alpha_entmax, sparse_entmax, support_entropy, tsallis_entropy
from estimators.options import OptionError
from estimators.spaces import Space

LEARNED_RANGE = (1.01, 2.0)
"""Open interval that a learned alpha stays in."""


@final
class SparseMarginalization(Estimator):
    r"""Sparse marginalization: q is the alpha-entmax of the scores, and only its support is decoded.

    .. math:: q = \arg\max_{p \in \Delta} \; p \cdot s + H_\alpha(p), \qquad L = \sum_{k : q_k > 0} q_k \, \ell(k)

    with :math:`H_\alpha` the Tsallis entropy; alpha = 2 is sparsemax, the Euclidean projection of the scores onto the
    simplex, and alpha towards 1 is softmax. Decoder calls: the number of nonzero probabilities, which training makes few.
    Exact: no bias, no variance; states outside the support have neither mass nor gradient.

    Over bits or several categoricals, the score of a state is the sum of those of its parts.

    Choose it where K is large and the model can become certain: it ends with the success of dense marginalization at a few
    calls, though it starts with nearly as many.

    Args:
        alpha: sparsity of the mapping, in (1, 2]; 2 is sparsemax, 1.5 is 1.5-entmax. Where it is learned, its initial value.
        learned: learn alpha from the objective, within (1.01, 2): one parameter of this latent variable's estimator.

    Raises:
        OptionError: if alpha is out of its range.

    References:
        - Correia, Niculae, Aziz and Martins (2020), Efficient marginalization of discrete and structured latent variables
          via sparsity, https://arxiv.org/abs/2007.01919.
        - Martins and Astudillo (2016), From softmax to sparsemax, https://arxiv.org/abs/1602.02068.
        - Peters, Niculae and Martins (2019), Sparse sequence-to-sequence models, https://arxiv.org/abs/1905.05702.
        - Correia, Niculae and Martins (2019), Adaptively sparse transformers, https://arxiv.org/abs/1909.00015.
    """

    unbiased = True
    marginalizes = True
    sparse = True
    uses = frozenset({"all_states", "score"})

    def __init__(self, *, alpha: float = 2.0, learned: bool = False) -> None:
        super().__init__()
        if not 1 + SMALLEST_EXCESS <= alpha <= 2:
            limits = f"must lie in (1, 2], and not within {SMALLEST_EXCESS:g} of 1"
            raise OptionError("alpha", f"{limits}, got {alpha}; softmax (alpha = 1) is the estimator 'dense'")
        low, high = LEARNED_RANGE
        if learned and not low < alpha < high:
            raise OptionError("alpha", f"must lie between {low} and {high} where it is learned, got {alpha}")
        self.fixed = float(alpha)
        odds = math.log((alpha - low) / (high - alpha)) if learned else 0.0
        self.log_odds = nn.Parameter(torch.tensor(odds, dtype=torch.float64)) if learned else None
        self.regulariser = self.tsallis

    @property
    def alpha(self) -> float | Tensor:
        """Alpha: a number, or ``[]`` where it is learned."""
        if self.log_odds is None:
            return self.fixed
        low, high = LEARNED_RANGE
        return low + (high - low) * torch.sigmoid(self.log_odds)

    def tsallis(self, probabilities: Tensor) -> Tensor:
        """Tsallis' entropy with this alpha, differentiable in it."""
        return tsallis_entropy(probabilities, self.alpha).to(probabilities.dtype)

    def probabilities(self, space: Space) -> Tensor:
        return alpha_entmax(space.all_scores, self.alpha)

    def propose(self, space: Space, draws: Draws, context: Tensor | None = None) -> Proposal:
        alpha = self.alpha
        places, q = sparse_entmax(space.all_scores, alpha)
        keep = q.detach() > 0
        pairs = space.select(space.at(places), keep)
        weights = q.flatten().index_select(0, keep.flatten().nonzero()[:, 0])
        reported = {"alpha": alpha.detach().expand(space.batch_size)} if isinstance(alpha, Tensor) else {}
        entropy = pairs.sum(support_entropy(weights))
        return Proposal(pairs, weights, entropy, context=context, metrics=reported)

    def combine(self, proposal: Proposal, losses: Tensor) -> Estimate:
        return Estimate.marginal(proposal, losses)


def sparsemax() -> SparseMarginalization:
    """Sparse marginalization over sparsemax: exact, and decodes only the states with any mass."""
    return SparseMarginalization(alpha=2.0)


def entmax_marginalization(*, alpha: float = 1.5, learned: bool = False) -> SparseMarginalization:
    """Sparse marginalization over alpha-entmax: between sparsemax (alpha = 2) and softmax (alpha towards 1).

    Args:
        alpha: sparsity of the mapping, in (1, 2]; 1.5 is 1.5-entmax. Where it is learned, its initial value.
        learned: learn alpha from the objective, within (1.01, 2): one parameter of this latent variable's estimator.
    """
    return SparseMarginalization(alpha=alpha, learned=learned)
