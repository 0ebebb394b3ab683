"""From scores to sparse probabilities: sparsemax and alpha-entmax, precise over their whole range; entropies and losses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from estimators.thresholds import search, threshold

SMALLEST_EXCESS = 1e-6
"""Closest that alpha may come to 1, where the arithmetic of the mapping still is precise."""

CLOSED = (2.0, 1.5)
"""Values of alpha whose powers are precise in any precision: sparsemax and 1.5-entmax."""


def _number(alpha: float | Tensor) -> float:
    return float(alpha.detach() if isinstance(alpha, Tensor) else alpha)


class _AlphaEntmax(torch.autograd.Function):
    """The mapping of every state at hand. Its backward pass is made of differentiable operations, so that it has one too."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, alpha: float | Tensor, start: Tensor | None) -> Tensor:
        beta = 1 / (_number(alpha) - 1)
        levels = (scores - scores.amax(-1, keepdim=True)).div_(beta)  # the best at zero: precise however large the scores are
        heights = levels.sub_(threshold(levels, beta, start)).clamp_(min=0)
        if beta == 1:
            q = heights
        elif beta == 2:
            q = heights.square_()
        else:
            q = heights.pow_(beta)
            q.div_(q.sum(-1, keepdim=True))
        ctx.save_for_backward(q, alpha if isinstance(alpha, Tensor) else None)
        ctx.alpha = _number(alpha)
        return q

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, None]:
        r"""``r * (g - mean)`` with rates :math:`r = q^{2 - \alpha}` and the mean of g that they weigh."""
        q, alpha = ctx.saved_tensors
        # At zero neither a power nor a logarithm has a slope, which a backward pass through this one would ask for.
        used = q > 0
        needed = ctx.needs_input_grad[1]
        positive = torch.where(used, q, 1) if needed or torch.is_grad_enabled() else q
        if alpha is None:
            rates = used.to(q.dtype) if ctx.alpha == 2 else positive ** (2 - ctx.alpha)
        else:
            logarithm = positive.log()
            growth = torch.expm1(logarithm * (1 - alpha))
            rates = q + q * growth
        if positive is not q:
            rates = torch.where(used, rates, 0)
        centered = gradient - (rates * gradient).sum(-1, keepdim=True) / rates.sum(-1, keepdim=True)
        if not needed:
            return rates * centered, None, None
        # The derivative of q in alpha is beta d, but for a multiple of the rates, which adds nothing to what is centred:
        # d = -q (log q + beta (q ** (-1 / beta) - 1)), of order 1 / beta though its terms are not.
        change = q * (logarithm + growth / (alpha - 1)) / (1 - alpha)
        return rates * centered, (centered * change).sum(), None


_apply: Callable[[Tensor, float | Tensor, Tensor | None], Tensor] = _AlphaEntmax.apply


def sparse_entmax(scores: Tensor, alpha: float | Tensor) -> tuple[Tensor, Tensor]:
    """Alpha-entmax as states and their probabilities: of many states, only of those that may have any.

    Args:
        scores: ``[B, K]``; ``-inf`` masks.
        alpha: in (1, 2]; a number, or ``[]`` where it is learned.

    Returns:
        ``[B, W]`` int64, states that hold the support of q in increasing order, and ``[B, W]``, their probabilities,
        differentiable as in :func:`alpha_entmax`. Rows that need less than W states end with state 0 at no probability.
    """
    few, start = search(scores.detach(), _number(alpha))
    if few is None:
        states = torch.arange(scores.shape[1], device=scores.device).expand(len(scores), -1)
    else:
        states, scores = few.states, scores.gather(1, few.states).masked_fill(few.padding, -torch.inf)
    if isinstance(alpha, float) and alpha in CLOSED:
        return states, _apply(scores, alpha, start)
    # A power of 1 / (alpha - 1): in single precision it would be noise where alpha is near 1.
    precise = alpha.double() if isinstance(alpha, Tensor) else alpha
    return states, _apply(scores.double(), precise, None if start is None else start.double()).to(scores.dtype)


def alpha_entmax(scores: Tensor, alpha: float | Tensor) -> Tensor:
    r"""Alpha-entmax of each row of ``scores`` ``[B, K]``; differentiable in them, and in alpha where it is a tensor ``[]``.

    .. math:: q = \arg\max_{p \in \Delta} \; p \cdot s + H_\alpha(p)

    with :math:`H_\alpha` the Tsallis entropy. A score of ``-inf`` masks a state.

    References:
        Peters, Niculae and Martins (2019), https://arxiv.org/abs/1905.05702.
        Correia, Niculae and Martins (2019), https://arxiv.org/abs/1909.00015, for the gradient of alpha.
    """
    states, q = sparse_entmax(scores, alpha)
    return q if q.shape == scores.shape else torch.zeros_like(scores).scatter_add(1, states, q)


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
