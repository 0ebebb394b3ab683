r"""The threshold of alpha-entmax, found by Newton's iteration among the few states that may have mass, without a sort of all.

With :math:`\beta = 1 / (\alpha - 1)` and *levels* :math:`t = (s - \max s) / \beta`, alpha-entmax is
:math:`q = (t - \tau)_+^\beta`, and its threshold the root of

.. math:: f(\tau) = \| (t - \tau)_+ \|_\beta - 1, \qquad -1 \le \tau < 0.

f falls and is convex: Newton's iteration from below grows towards the root and never passes it. For beta = 1, sparsemax, a step
is the closed form of the threshold for the present support; once the support stays, it is the one that sorting would find. The
root for a part of the states is no more than that for all, so that a part gives the iteration its start, and tells which
states need no look.

References:
    - Michelot (1986), A finite algorithm for finding the projection of a point onto the canonical simplex of R^n,
      https://doi.org/10.1007/BF00938486: the iteration for beta = 1.
    - Condat (2016), Fast projection onto the simplex and the l1 ball, https://doi.org/10.1007/s10107-015-0946-6: the start.
    - Peters, Niculae and Martins (2019), Sparse sequence-to-sequence models, https://arxiv.org/abs/1905.05702.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

SORTED = 64
"""States that are sorted sooner than iterated over."""

BLOCK = 64
"""States whose best one stands for them in a first bound of the threshold."""

MANY = 1024
"""States that are worth a search for those that may have mass."""

FEW = 0.2
"""Share of the states that is still worth gathering."""

SLACK = 16
"""How far rounding may be trusted to have made a start too high, in units of the precision: f falls at least as fast as tau."""

MOST_ROUNDS = 200
"""An end whatever rounding does: a dozen rounds are many."""


def _newton(levels: Tensor, beta: float, tau: Tensor) -> Tensor:
    """``[B, 1]``: the root for ``levels`` ``[B, W]`` from ``tau`` ``[B, 1]``, which is no more than it."""
    heights = torch.empty_like(levels)
    eps = torch.finfo(levels.dtype).eps
    # From beta = 2 on, f' <= -1 and f'' <= (beta - 1) W between -1 and the root, and so an error is half their quotient times
    # the square of the last step. Below, f'' has no bound.
    tolerance = math.sqrt(eps / ((beta - 1) * levels.shape[1])) if beta >= 2 else 4 * eps
    sizes = None
    for _ in range(MOST_ROUNDS):
        torch.sub(levels, tau, out=heights).clamp_(min=0)
        if beta == 1:
            mass = heights.sum(-1, keepdim=True)
            slope = heights.sign_().sum(-1, keepdim=True)
            step = (mass - 1) / slope
            if sizes is not None and torch.equal(sizes, slope):
                # The support only shrinks while tau grows: of the same size, it is the one that tau was made of. From far
                # below, that rounded: the step that is left is what it missed.
                return tau + step
            sizes = slope
        else:
            slopes = heights if beta == 2 else heights.pow(beta - 1)
            slope = slopes.sum(-1, keepdim=True)
            norm = torch.mul(slopes, heights, out=heights).sum(-1, keepdim=True).log_().div_(beta)
            step = norm.expm1().mul_(norm.mul_(beta - 1).exp_()).div_(slope)
        tau = torch.maximum(tau, tau + step)
        if beta != 1 and float(step.amax()) <= tolerance:
            break
    return tau


def _closed(levels: Tensor, beta: float) -> Tensor:
    """``[B, 1]``: the root for ``levels`` ``[B, W]`` that fall from left to right, in closed form for beta = 1 and 2.

    The j best states have a root of their own; the root of all is that of as many as lie above theirs.
    """
    size = torch.arange(1, levels.shape[1] + 1, dtype=levels.dtype, device=levels.device)
    total = levels.cumsum(-1)
    if beta == 1:
        return (total - 1).div_(size).amax(-1, keepdim=True)  # the largest is that of the support
    mean = total / size
    scatter = levels.square().cumsum(-1).sub_(total.mul_(mean))
    roots = mean.sub_((1 - scatter).div_(size).clamp_(min=0).sqrt_())
    return roots.gather(-1, (roots <= levels).sum(-1, keepdim=True).sub_(1).clamp_(min=0))


def threshold(levels: Tensor, beta: float, start: Tensor | None = None) -> Tensor:
    """``[B, 1]``: the root of f for each row of ``levels`` ``[B, W]``, whose best are zero; ``-inf`` masks.

    Args:
        levels: t, scores of at most zero over beta.
        beta: 1 / (alpha - 1), at least 1.
        start: ``[B, 1]``, no more than the root, where that is known.
    """
    few, closed = levels.shape[1] <= SORTED, beta in (1, 2)
    if few and closed:
        return _closed(levels.sort(-1, descending=True).values, beta)
    if start is None:
        start = levels.new_full((len(levels), 1), -1.0)
    if not few and not closed and levels.dtype == torch.float64:
        # Powers in single precision take half the time, and only the last rounds need better ones.
        start = _newton(levels.float(), beta, start.float()).double() - SLACK * torch.finfo(torch.float32).eps
    return _newton(levels, beta, start)


class Few(NamedTuple):
    """Few of the states of each row, among them all that have mass.

    Attributes:
        states: ``[B, W]`` int64, in increasing order, filled up with state 0.
        padding: ``[B, W]``, which of them fill up.
    """

    states: Tensor
    padding: Tensor


def search(scores: Tensor, alpha: float) -> tuple[Few | None, Tensor | None]:
    """The few states of ``scores`` ``[B, K]`` that may have mass, and a level ``[B, 1]`` that the threshold is not below.

    What lies under the threshold of the best states of blocks has no mass, and blocks whose best lies there need no look.
    There is no level where K is so small that a search would not pay, and no choice where the states are not few either.
    """
    batch, size = scores.shape
    if size < MANY:
        return None, None
    odd = -size % BLOCK
    padded = nn.functional.pad(scores, (0, odd), value=-torch.inf) if odd else scores
    blocks = padded.reshape(batch, -1, BLOCK)
    best = blocks.amax(-1)
    top = best.amax(-1, keepdim=True)
    beta = 1 / (alpha - 1)
    # Rounding may make neither the start nor the bound too high.
    slack = SLACK * torch.finfo(scores.dtype).eps
    start = threshold((best - top).div_(beta), beta) - slack
    bound = top + beta * start - slack * (top.abs() + beta)
    if float((blocks[:, :, 0] > bound).to(scores.dtype).mean()) > FEW:
        return None, start
    row, block = (best <= bound).logical_not_().nonzero(as_tuple=True)  # what is not a number stays in
    place, offset = (blocks[row, block] <= bound[row]).logical_not_().nonzero(as_tuple=True)
    row, column = row[place], block[place] * BLOCK + offset
    counts = torch.bincount(row, minlength=batch)
    width = int(counts.max())
    if width > FEW * size:
        return None, start
    slot = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row]
    states = column.new_zeros(batch, width)
    states[row, slot] = column
    return Few(states, torch.arange(width, device=row.device) >= counts.unsqueeze(1)), start
