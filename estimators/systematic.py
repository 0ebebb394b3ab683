"""Systematic sampling: members with given inclusion probabilities, laid as intervals around a circle of length one.

A point of the circle selects the members whose intervals hold it. Intervals laid end to end make the number selected the same
everywhere, up to one; the end points cut the circle into as many sets, each with a known probability. Madow (1949),
On the theory of systematic sampling, https://doi.org/10.1214/aoms/1177729988.
"""

from __future__ import annotations

import torch
from torch import Tensor

NEGLIGIBLE = 1e-12
"""Longest arc that is taken for a rounding error."""


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
    points = torch.cat([ends.new_zeros(len(ends), 1), ends.sort(1).values, ends.new_ones(len(ends), 1)], 1)
    lengths = points.diff(dim=1)
    return torch.where(lengths > NEGLIGIBLE, lengths, 0), ((points[:, 1:] + points[:, :-1]) / 2).detach()


def members(points: Tensor, start: Tensor, length: Tensor) -> Tensor:
    """``[B, P, D]`` bool: whether each interval holds each of the ``points`` ``[B, P]``."""
    start, length = start.detach().unsqueeze(1), length.detach().unsqueeze(1)
    return (points.unsqueeze(2) - start).remainder(1) < length
