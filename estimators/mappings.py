"""From scores to sparse probabilities: sparsemax and alpha-entmax, precise over their whole range."""

from __future__ import annotations

import entmax
import torch
from torch import Tensor

SMALLEST_EXCESS = 1e-6
"""Closest that alpha may come to 1, where the arithmetic of the mapping still is precise."""


def alpha_entmax(scores: Tensor, alpha: float | Tensor) -> Tensor:
    r"""Alpha-entmax of each row of ``scores`` ``[B, K]``; differentiable in them, and in alpha where it is a tensor ``[]``.

    .. math:: q = \arg\max_{p \in \Delta} \; p \cdot s + H_\alpha(p)

    with :math:`H_\alpha` the Tsallis entropy. A score of ``-inf`` masks a state.

    References:
        Peters, Niculae and Martins (2019), https://arxiv.org/abs/1905.05702.
        Correia, Niculae and Martins (2019), https://arxiv.org/abs/1909.00015, for the gradient of alpha.
    """
    # The best score at zero keeps the arithmetic precise. A state this far below has no mass: lifting it there changes neither
    # q nor a gradient, and keeps the -inf of masked states out.
    lowest = -2 / (float(alpha.detach() if isinstance(alpha, Tensor) else alpha) - 1)
    scores = (scores - scores.detach().amax(-1, keepdim=True)).clamp(min=lowest)
    exact = {2.0: entmax.sparsemax, 1.5: entmax.entmax15}.get(alpha) if isinstance(alpha, float) else None
    if exact:
        q: Tensor = exact(scores, dim=-1)
        return q
    # A power of 1 / (alpha - 1): in single precision it would be noise where alpha is near 1.
    if isinstance(alpha, Tensor):
        alpha = alpha.double().expand(scores.shape[0], 1)
    q = entmax.entmax_bisect(scores.double(), alpha, dim=-1)
    return q.to(scores.dtype)


def support_entropy(weights: Tensor) -> Tensor:
    """``-w log w`` of each weight, zero where it is zero: there log w is infinite, and its gradient not a number."""
    used = weights > 0
    return -torch.where(used, weights * torch.where(used, weights, 1).log(), 0)
