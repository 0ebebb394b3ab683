"""From scores to sparse probabilities: sparsemax and alpha-entmax, precise over their whole range; entropies and losses."""

from __future__ import annotations

from collections.abc import Callable

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


def shannon_entropy(probabilities: Tensor) -> Tensor:
    """``-sum_k p_k log p_k`` in nats over the last axis, differentiable also where p has zeros."""
    return support_entropy(probabilities).sum(-1)


def tsallis_entropy(probabilities: Tensor, alpha: float | Tensor) -> Tensor:
    r"""Tsallis' entropy over the last axis, differentiable in the probabilities and in alpha above 1.

    .. math:: H_\alpha(p) = \frac{1}{\alpha (\alpha - 1)} \sum_k \big(p_k - p_k^\alpha\big)

    References:
        Tsallis (1988), Possible generalization of Boltzmann-Gibbs statistics, https://doi.org/10.1007/BF01016429.
    """
    used = probabilities > 0  # where it is zero, the gradient of the power in alpha is not a number
    powers = torch.where(used, torch.where(used, probabilities, 1) ** alpha, 0)
    return (probabilities - powers).sum(-1) / (alpha * (alpha - 1))


def gini_entropy(probabilities: Tensor) -> Tensor:
    """Tsallis' entropy of alpha = 2, ``(1 - sum_k p_k^2) / 2`` of probabilities: the one that sparsemax maximises."""
    return tsallis_entropy(probabilities, 2.0)


def fenchel_young_loss(
    scores: Tensor, probabilities: Tensor, target: Tensor, regulariser: Callable[[Tensor], Tensor]
) -> Tensor:
    r"""The loss whose gradient in the scores is ``q - e_y``, for q the mapping that an entropy H regularises.

    .. math:: \ell(s, y) = \max_p \big[ p \cdot s + H(p) \big] - s_y - H(e_y) = q \cdot s + H(q) - s_y

    It is the cross-entropy for softmax and the sparsemax loss for sparsemax: convex, at least zero, and zero where q is
    certain of y.

    Args:
        scores: ``[B, K]``.
        probabilities: ``[B, K]``, the maximiser q. Its gradient is not needed: the loss is stationary in it.
        target: ``[B]`` int64, the labels y.
        regulariser: H, zero at the corners of the simplex.

    Returns:
        ``[B]``, differentiable in the scores and in what H is made of.

    References:
        - Blondel, Martins and Niculae (2020), Learning with Fenchel-Young losses, https://arxiv.org/abs/1901.02324.
        - Martins and Astudillo (2016), From softmax to sparsemax, https://arxiv.org/abs/1602.02068.
    """
    q = probabilities.detach()
    aligned = torch.where(q > 0, q * torch.where(q > 0, scores, 0), 0).sum(1)  # a masked state has no mass
    return aligned + regulariser(q) - scores.gather(1, target.unsqueeze(1))[:, 0]
