"""SparseMAP over bit vectors, with or without a budget of bits: closed-form marginals and nested states.

Each bit is an interval of a circle of length one; a point of the circle is a state, the bits whose intervals hold it. The end
points cut the circle into as many states, each with a known probability. This is systematic sampling (Madow 1949).
"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from estimators.base import Estimate, Estimator, Proposal
from estimators.draws import Draws
from estimators.mappings import support_entropy
from estimators.options import OptionError
from estimators.spaces import Space

NEGLIGIBLE = 1e-12
"""Longest arc that is taken for a rounding error."""


def budgeted_marginals(scores: Tensor, budget: int | None) -> Tensor:
    r"""Marginals of SparseMAP over bits: a projection.

    .. math:: \mu = \arg\min_{0 \le \mu \le 1,\; \sum_d \mu_d \le m} \sum_d \big(\mu_d - \tfrac{s_d + 1}{2}\big)^2
        = \mathrm{clip}\big(\tfrac{s + 1}{2} - \tau,\, 0,\, 1\big)

    with the smallest :math:`\tau \ge 0` that respects the budget m. The threshold is found by sorting the points where a bit
    leaves 0 or 1, and is exact; ``[B, D]``, differentiable.
    """
    free = (scores.clamp(min=-3) + 1) / 2  # below -1 a bit is off, and its distance does not matter
    if budget is None or budget >= scores.shape[1]:
        return free.clamp(0, 1)
    binding = free.detach().clamp(0, 1).sum(1, keepdim=True) > budget
    # Where the budget binds, a shift changes nothing. With the first bit that must go at zero, the threshold lies in (-1, 0]:
    # what is beyond -2 or 2 is off or on, however large.
    first = free.detach().topk(budget + 1, 1).values[:, -1:]
    shifted = (free - first).clamp(-2, 2)
    with torch.no_grad():
        # Beyond threshold t the total is piecewise linear: it bends down where a bit leaves 1, and up where one reaches 0.
        bends, order = torch.cat([shifted - 1, shifted], 1).sort(1)
        steeper = torch.where(order < free.shape[1], 1.0, -1.0).to(free.dtype).cumsum(1)
        totals = free.shape[1] - (steeper[:, :-1] * bends.diff(dim=1)).cumsum(1)  # at the bends from the second on
        after = (totals > budget).sum(1, keepdim=True)  # the solution lies in the piece that starts at this bend
        middle = (bends.gather(1, after) + bends.gather(1, after + 1)) / 2
        inside = (shifted > middle) & (shifted < middle + 1)
        ones = (shifted >= middle + 1).sum(1, keepdim=True)
    threshold = (torch.where(inside, shifted, 0).sum(1, keepdim=True) + ones - budget) / inside.sum(1, keepdim=True)
    return torch.where(binding, shifted - threshold, free).clamp(0, 1)


def lanes(marginals: Tensor, budget: int | None) -> Tensor:
    """Starts of the bits' intervals, ``[B, D]``, differentiable: no point of the circle lies in more than ``budget``.

    The bits with the largest marginals have a lane each and start at zero: their states are nested. What would not fit in
    the lanes left is laid end to end around as few of them as hold it; with a budget of D, nothing is.
    """
    ordered, order = marginals.sort(1, descending=True)
    size = ordered.shape[1]
    if budget is None or budget >= size:
        return torch.zeros_like(ordered)
    rest = ordered.detach().flip(1).cumsum(1).flip(1)  # rest[j]: the sum from the j-th on
    shared = torch.arange(budget + 1, device=ordered.device)  # lanes that are shared
    enough = rest[:, budget - shared] - shared <= NEGLIGIBLE * size  # more is a rounding error
    nested = budget - enough.to(torch.int8).argmax(1, keepdim=True)
    place = torch.arange(size, device=ordered.device)
    wrapped = torch.where(place < nested, 0.0, ordered)
    start = torch.where(place < nested, 0.0, wrapped.cumsum(1) - wrapped)
    return torch.zeros_like(start).scatter(1, order, start)


def _tied(ends: Tensor) -> Tensor:
    """Sorted ends ``[B, D]`` with a subgradient where some are equal: equal ones move together, those at 0 or 1 do not move.

    The arc between two equal ends is not decoded. Were its length differentiated, its loss would count as zero in the gradient,
    which would then depend on a constant in the losses.
    """
    fixed = ends.detach()
    ends = torch.where((fixed > NEGLIGIBLE) & (fixed < 1 - NEGLIGIBLE), ends, fixed)
    group = torch.nn.functional.pad((fixed.diff(dim=1) > NEGLIGIBLE).cumsum(1), (1, 0))
    members_of_group = torch.zeros_like(fixed).scatter_add(1, group, torch.ones_like(fixed))
    total = torch.zeros_like(fixed).scatter_add(1, group, ends)
    return (total / members_of_group.clamp(min=1)).gather(1, group)


def arcs(start: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
    """Cut the circle at the ends of the intervals.

    Args:
        start: ``[B, D]``, where each interval starts: at zero or at another interval's end, modulo one; differentiable.
        length: ``[B, D]`` in [0, 1]; differentiable.

    Returns:
        The lengths of the arcs ``[B, D + 1]``, differentiable, zero where negligible; and their midpoints, ``[B, D + 1]``.
    """
    ends = start + length
    # An end at a whole number is the circle's own end, as is one that a rounding error has carried past it.
    ends = (ends - (ends.detach() - NEGLIGIBLE).floor()).clamp(max=1)
    points = torch.cat([ends.new_zeros(len(ends), 1), _tied(ends.sort(1).values), ends.new_ones(len(ends), 1)], 1)
    lengths = points.diff(dim=1)
    return torch.where(lengths > NEGLIGIBLE, lengths, 0), ((points[:, 1:] + points[:, :-1]) / 2).detach()


def members(points: Tensor, start: Tensor, length: Tensor) -> Tensor:
    """``[B, P, D]`` bool: whether each interval holds each of the ``points`` ``[B, P]``."""
    first = start.detach().remainder(1)
    last = first + length.detach()
    wraps = last > 1  # past the end of the circle: then what lies between its end and its start is outside
    low, high = torch.where(wraps, last - 1, first), torch.where(wraps, first, last)
    points = points.unsqueeze(2)
    return ((points >= low.unsqueeze(1)) & (points < high.unsqueeze(1))) ^ wraps.unsqueeze(1)


@final
class SparseMAP(Estimator):
    r"""SparseMAP over bit vectors: a sparse distribution over at most D + 1 states with given marginals, summed exactly.

    .. math:: \mu = \mathrm{clip}\big(\tfrac{s + 1}{2} - \tau,\, 0,\, 1\big), \qquad
        q(z) = \big|\{u \in [0, 1) : z_d = [\, u \in I_d \,] \text{ for all } d\}\big|, \quad |I_d| = \mu_d

    Marginals are SparseMAP's, in closed form; with a budget, :math:`\tau` keeps their sum within it. Many distributions have
    these marginals. This one lays the intervals :math:`I_d` from zero: its states are nested, each one the last without its
    least likely bit. Under a budget the intervals that need it are laid end to end (systematic sampling), and no state has
    more bits than the budget. The published solver's choice among such distributions depends on its starting point; this one
    is differentiable almost everywhere, and needs no solver. Decoder calls: the number of distinct marginals, and at most
    D + 1. Exact for its own q.

    Choose it for bit vectors of any length, with a decoder that can afford a few states.

    Args:
        budget: most bits that a state may have; without it, any number.

    Raises:
        OptionError: if the budget is out of its range.

    References:
        - Niculae, Martins, Blondel and Cardie (2018), SparseMAP, https://arxiv.org/abs/1802.04223.
        - Correia, Niculae, Aziz and Martins (2020), Efficient marginalization of discrete and structured latent variables
          via sparsity, https://arxiv.org/abs/2007.01919.
        - Madow (1949), On the theory of systematic sampling, https://doi.org/10.1214/aoms/1177729988.
    """

    unbiased = True
    marginalizes = True
    sparse = True
    uses = frozenset({"bit_scores"})

    def __init__(self, *, budget: int | None = None) -> None:
        super().__init__()
        if budget is not None and budget < 1:
            raise OptionError("budget", f"must be at least 1, got {budget}")
        self.budget = budget

    def marginals(self, space: Space) -> Tensor:
        """``[B, D]``: the probability of each bit, differentiable."""
        return budgeted_marginals(space.bit_scores().double(), self.budget).to(space.dtype)

    def _distribution(self, space: Space) -> tuple[Tensor, Tensor]:
        """The states ``[B, D + 1, D]``, bool, and their probabilities ``[B, D + 1]``."""
        # In double precision throughout: a rounding error would be a state of its own, perhaps beyond the budget.
        marginals = budgeted_marginals(space.bit_scores().double(), self.budget)
        start = lanes(marginals, self.budget)
        q, middles = arcs(start, marginals)
        states = members(middles, start, marginals)
        return states, q.to(space.dtype)

    def probabilities(self, space: Space) -> Tensor:
        states, q = self._distribution(space)
        return space.scatter(states, q)

    def propose(self, space: Space, draws: Draws, context: Tensor | None = None) -> Proposal:
        states, q = self._distribution(space)
        keep = q.detach() > NEGLIGIBLE
        return Proposal(space.select(states, keep), q.masked_select(keep), support_entropy(q).sum(1), context=context)

    def combine(self, proposal: Proposal, losses: Tensor) -> Estimate:
        return Estimate.marginal(proposal, losses)
