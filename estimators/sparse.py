"""Sparse marginalization: the exact expectation over the few states to which a sparse mapping gives any mass."""

from __future__ import annotations

from typing import ClassVar, final

import entmax
from torch import Tensor

from estimators.base import Estimate, Estimator, Latents, OptionError, Proposal, as_scores
from estimators.draws import Draws

SMALLEST_EXCESS = 1e-6
"""Closest that alpha may come to 1, where the arithmetic of the mapping still is precise."""


@final
class SparseMarginalization(Estimator):
    r"""Sparse marginalization: q is the alpha-entmax of the scores, and only its support is decoded.

    .. math:: q = \arg\max_{p \in \Delta} \; p \cdot s + H_\alpha(p), \qquad L = \sum_{k : q_k > 0} q_k \, \ell(k)

    with :math:`H_\alpha` the Tsallis entropy; alpha = 2 is sparsemax, the Euclidean projection of the scores onto the
    simplex, and alpha towards 1 is softmax. Decoder calls: the number of nonzero probabilities, which training makes few.
    Exact: no bias, no variance; states outside the support have neither mass nor gradient.

    Args:
        alpha: sparsity of the mapping, in (1, 2]; 2 is sparsemax, 1.5 is 1.5-entmax.

    Raises:
        OptionError: if alpha is out of its range.

    References:
        - Correia, Niculae, Aziz and Martins (2020), Efficient marginalization of discrete and structured latent variables
          via sparsity, https://arxiv.org/abs/2007.01919.
        - Martins and Astudillo (2016), From softmax to sparsemax, https://arxiv.org/abs/1602.02068.
        - Peters, Niculae and Martins (2019), Sparse sequence-to-sequence models, https://arxiv.org/abs/1905.05702.
    """

    unbiased: ClassVar[bool] = True

    def __init__(self, *, alpha: float = 2.0) -> None:
        super().__init__()
        if not 1 + SMALLEST_EXCESS <= alpha <= 2:
            limits = f"must lie in (1, 2], and not within {SMALLEST_EXCESS:g} of 1"
            raise OptionError("alpha", f"{limits}, got {alpha}; softmax (alpha = 1) is the estimator 'dense'")
        self.alpha = alpha

    def probabilities(self, scores: Tensor) -> Tensor:
        scores = as_scores(scores)
        # The best score at zero keeps the arithmetic precise. A state this far below has no mass: lifting it there changes
        # neither q nor a gradient, and keeps the -inf of masked states out.
        scores = (scores - scores.detach().amax(-1, keepdim=True)).clamp(min=-2 / (self.alpha - 1))
        exact = {2.0: entmax.sparsemax, 1.5: entmax.entmax15}.get(self.alpha)
        if exact:
            q: Tensor = exact(scores, dim=-1)
            return q
        # A power of 1 / (alpha - 1): in single precision it would be noise where alpha is near 1.
        q = entmax.entmax_bisect(scores.double(), self.alpha, dim=-1)
        return q.to(scores.dtype)

    def propose(self, scores: Tensor, draws: Draws, context: Tensor | None = None) -> Proposal:
        q = self.probabilities(scores)
        row, index = q.detach().nonzero(as_tuple=True)
        latents = Latents.ragged(row, index, q.shape[0], q.shape[1], q.dtype)
        weights = q.flatten().index_select(0, row * q.shape[1] + index)
        # The entropy sums over the support alone: elsewhere log q is infinite, and its gradient not a number.
        return Proposal(latents, weights, -latents.sum(weights * weights.log()), context=context)

    def combine(self, proposal: Proposal, losses: Tensor) -> Estimate:
        value = proposal.latents.sum(proposal.weights * losses)
        return Estimate.of(proposal, surrogate=value, value=value)


def sparsemax() -> SparseMarginalization:
    """Sparse marginalization over sparsemax: exact, and decodes only the states with any mass."""
    return SparseMarginalization(alpha=2.0)


def entmax_marginalization(*, alpha: float = 1.5) -> SparseMarginalization:
    """Sparse marginalization over alpha-entmax: between sparsemax (alpha = 2) and softmax (alpha towards 1).

    Args:
        alpha: sparsity of the mapping, in (1, 2]; 1.5 is 1.5-entmax.
    """
    return SparseMarginalization(alpha=alpha)
