"""Baselines (control variates) of the score function: what is subtracted from a sampled loss before it weighs log q.

A baseline that does not depend on the sample it is subtracted from leaves the gradient unbiased, because
``E_q[b * grad log q(z)] = 0``. Each one therefore reads other samples or the past only, and its values are detached.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from estimators.categorical import Categorical
from estimators.draws import Draws


class Baseline(nn.Module, ABC):
    """Values to subtract from the sampled losses, and the extra states it needs decoded for that."""

    minimum_samples: ClassVar[int] = 1
    """How many samples of an example the baseline needs."""

    def extra_states(self, q: Categorical, draws: Draws) -> Tensor:
        """``[B, E]`` int64: states to decode for the baseline alone; none, unless a subclass asks for some."""
        return torch.empty(q.batch_size, 0, dtype=torch.int64, device=q.scores.device)

    @abstractmethod
    def forward(self, losses: Tensor, extra_losses: Tensor) -> Tensor:
        """``[B, S]`` or broadcastable, from detached ``losses`` ``[B, S]`` and ``extra_losses`` ``[B, E]``."""

    def update(self, losses: Tensor) -> None:
        """Learn from this step's ``losses`` ``[B, S]``; called in training, after the baseline has been used."""
        return


class NoBaseline(Baseline):
    """Zero."""

    def forward(self, losses: Tensor, extra_losses: Tensor) -> Tensor:
        return losses.new_zeros(())


class MovingAverage(Baseline):
    """Average of the losses of past batches, ``sum_i decay^i mean_{t-i} / sum_i decay^i``; zero before the first.

    With ``decay = 1`` it is the running mean of all past batches.
    """

    total: Tensor
    mass: Tensor

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("total", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mass", torch.zeros((), dtype=torch.float64))

    def forward(self, losses: Tensor, extra_losses: Tensor) -> Tensor:
        return (self.total / self.mass.clamp(min=1)).to(losses.dtype)

    def update(self, losses: Tensor) -> None:
        self.total.mul_(self.decay).add_(losses.mean())
        self.mass.mul_(self.decay).add_(1)


class SelfCritic(Baseline):
    """The loss of another state of the same example: the most likely one, or an independent sample.

    Rennie et al. (2017), https://arxiv.org/abs/1612.00563. It costs one decoder call, and its loss is detached: otherwise
    the decoder's gradient is that of another objective.
    """

    def __init__(self, sample: bool) -> None:
        super().__init__()
        self.sample = sample

    def extra_states(self, q: Categorical, draws: Draws) -> Tensor:
        return q.sample(draws, 1) if self.sample else q.argmax()[:, None]

    def forward(self, losses: Tensor, extra_losses: Tensor) -> Tensor:
        return extra_losses


class LeaveOneOut(Baseline):
    """For each sample, the mean loss of the other samples of the same example.

    Kool, van Hoof and Welling (2019), https://openreview.net/forum?id=r1lgTGL5DE.
    """

    minimum_samples: ClassVar[int] = 2

    def forward(self, losses: Tensor, extra_losses: Tensor) -> Tensor:
        return (losses.sum(1, keepdim=True) - losses) / (losses.shape[1] - 1)


BaselineName = Literal["none", "moving_average", "self_critic", "sampled_self_critic", "leave_one_out"]

BASELINES: dict[BaselineName, Callable[[float], Baseline]] = {
    "none": lambda decay: NoBaseline(),
    "moving_average": MovingAverage,
    "self_critic": lambda decay: SelfCritic(sample=False),
    "sampled_self_critic": lambda decay: SelfCritic(sample=True),
    "leave_one_out": lambda decay: LeaveOneOut(),
}
