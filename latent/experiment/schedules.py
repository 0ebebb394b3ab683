"""Schedules of the learning rate by name: a new one is a function here and a line below.

A schedule is made from the number of steps and its options. It is a pure function of the steps done, so that a run that goes
on has the learning rate that it would have had. Its factor is of the learning rates of task and estimator alike; the steps of a
warm start, which come before, have their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from estimators import OptionError
from estimators.parts import Registry

Schedule = Callable[[int], float]
"""From the number of steps done, 0 to steps - 1, to the factor of the learning rate."""


def constant(steps: int) -> Schedule:
    """The learning rate stays as it is."""
    return lambda step: 1.0


def warm_up(steps: int, *, warm_up_steps: int = 500) -> Schedule:
    r"""The learning rate grows linearly, and then stays as it is.

    .. math:: f(t) = \min(1, (t + 1) / w)

    Args:
        steps: all of them.
        warm_up_steps: steps w in which it grows.

    Raises:
        OptionError: if an option is out of its range.
    """
    if warm_up_steps < 1:
        raise OptionError("warm_up_steps", f"must be at least 1, got {warm_up_steps}")
    return lambda step: min(1.0, (step + 1) / warm_up_steps)


def cosine(steps: int, *, final_fraction: float = 0.0, warm_up_steps: int = 0) -> Schedule:
    r"""The learning rate falls along half a cosine, after it has grown linearly, if that is asked for.

    .. math:: f(t) = \begin{cases} (t + 1) / w & t < w \\
        r + (1 - r)\, \big(1 + \cos(\pi\, (t - w) / (T - w))\big) / 2 & t \ge w \end{cases}

    Args:
        steps: all of them, T.
        final_fraction: fraction r of the learning rate that it falls to.
        warm_up_steps: steps w in which it grows before.

    Raises:
        OptionError: if an option is out of its range.

    References:
        Loshchilov and Hutter (2017), SGDR: stochastic gradient descent with warm restarts, https://arxiv.org/abs/1608.03983.
    """
    if not 0 <= final_fraction <= 1:
        raise OptionError("final_fraction", f"must lie between 0 and 1, got {final_fraction}")
    if not 0 <= warm_up_steps < steps:
        raise OptionError("warm_up_steps", f"must be at least 0 and below train.steps, {steps}, got {warm_up_steps}")

    def factor(step: int) -> float:
        if step < warm_up_steps:
            return (step + 1) / warm_up_steps
        fallen = (1 - math.cos(math.pi * (step - warm_up_steps) / (steps - warm_up_steps))) / 2
        return 1 - (1 - final_fraction) * fallen

    return factor


SCHEDULES = Registry[Callable[..., Schedule]]("schedule", {"constant": constant, "warm_up": warm_up, "cosine": cosine})
