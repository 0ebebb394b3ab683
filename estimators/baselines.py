"""Baselines (control variates) of the score function: what is subtracted from a sampled loss before it weighs log q.

A baseline that does not depend on the sample it is subtracted from leaves the gradient unbiased, because
``E_q[b * grad log q(z)] = 0``. Each one therefore reads other samples, the input or the past only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from estimators.draws import Draws
from estimators.options import OptionError
from estimators.spaces import Capability, Space


class Baseline(nn.Module, ABC):
    """Values to subtract from the sampled losses, and the extra states it needs decoded for that."""

    minimum_samples: ClassVar[int] = 1
    """How many samples of an example the baseline needs."""
    uses: frozenset[Capability] = frozenset()
    """What the baseline asks of a space."""

    def extra_states(self, space: Space, draws: Draws, sampled: Tensor) -> Tensor:
        """States to decode for the baseline alone, beside those ``sampled``; none, unless a subclass asks for some."""
        return sampled[:, :0]

    @abstractmethod
    def forward(self, losses: Tensor, extra_losses: Tensor, context: Tensor | None) -> Tensor:
        """``[B, S]`` or broadcastable, from detached ``losses`` ``[B, S]`` and ``extra_losses`` ``[B, E]``.

        It carries a gradient of the baseline's own parameters, where it has any.
        """

    def update(self, losses: Tensor) -> None:
        """Learn from this step's ``losses`` ``[B, S]``; called in training, after the baseline has been used."""
        return


class NoBaseline(Baseline):
    """Zero."""

    def forward(self, losses: Tensor, extra_losses: Tensor, context: Tensor | None) -> Tensor:
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

    @property
    def average(self) -> Tensor:
        """``[]``, float64."""
        return self.total / self.mass.clamp(min=1)

    def forward(self, losses: Tensor, extra_losses: Tensor, context: Tensor | None) -> Tensor:
        return self.average.to(losses.dtype)

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
        self.uses = frozenset({"sample" if sample else "argmax"})

    def extra_states(self, space: Space, draws: Draws, sampled: Tensor) -> Tensor:
        return space.sample(draws, 1) if self.sample else space.argmax()

    def forward(self, losses: Tensor, extra_losses: Tensor, context: Tensor | None) -> Tensor:
        return extra_losses


class LeaveOneOut(Baseline):
    """For each sample, the mean loss of the other samples of the same example.

    Kool, van Hoof and Welling (2019), https://openreview.net/forum?id=r1lgTGL5DE.
    """

    minimum_samples: ClassVar[int] = 2

    def forward(self, losses: Tensor, extra_losses: Tensor, context: Tensor | None) -> Tensor:
        return (losses.sum(1, keepdim=True) - losses) / (losses.shape[1] - 1)


class Critic(nn.Module):
    """A small network of the context, ``[B, ...]`` to ``[B, 1]``: Linear, tanh, Linear. It starts at zero.

    Its input size is that of the first context: as with every lazy module of torch, call it once before an optimiser is made
    or a checkpoint is written.

    Args:
        hidden_size: size of the hidden layer.
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.hidden = nn.LazyLinear(hidden_size)
        self.output = nn.Linear(hidden_size, 1)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, context: Tensor | None) -> Tensor:
        """``[B, 1]``; the context is detached."""
        if context is None:
            raise ValueError("this estimator reads the input: pass context=features, [B, ...]")
        features = context.detach().reshape(len(context), -1).to(self.output.weight.dtype)
        prediction: Tensor = self.output(torch.tanh(self.hidden(features)))
        return prediction


class InputDependent(Baseline):
    """A learned function of the input plus a moving average: the baseline of NVIL.

    Mnih and Gregor (2014), https://arxiv.org/abs/1402.0030.
    """

    def __init__(self, decay: float, hidden_size: int) -> None:
        super().__init__()
        self.average = MovingAverage(decay)
        self.critic = Critic(hidden_size)

    def forward(self, losses: Tensor, extra_losses: Tensor, context: Tensor | None) -> Tensor:
        average: Tensor = self.average(losses, extra_losses, context)
        predicted: Tensor = self.critic(context)
        if len(predicted) != len(losses):
            raise ValueError(f"the context has {len(predicted)} examples, the scores {len(losses)}")
        return average + predicted.to(losses.dtype)

    def update(self, losses: Tensor) -> None:
        self.average.update(losses)


class VarianceNormalisation(nn.Module):
    """Divides the learning signal by ``max(1, s)``, s² the moving average of its mean square over past batches.

    Mnih and Gregor (2014), https://arxiv.org/abs/1402.0030. The gradient of the encoder keeps its expected direction and is
    shorter by that factor. Here the mean square is about the baseline, so that it is defined for a batch of one.
    """

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.square = MovingAverage(decay)

    def forward(self, signal: Tensor) -> Tensor:
        """``signal`` of any shape, scaled by what the past tells."""
        return signal / self.square.average.sqrt().clamp(min=1).to(signal.dtype)

    def update(self, signal: Tensor) -> None:
        """Learn from this step's signal; called in training, after the scale has been used."""
        self.square.update(signal.square())


BaselineName = Literal["none", "moving_average", "self_critic", "sampled_self_critic", "leave_one_out", "nvil"]

BASELINES: dict[BaselineName, Callable[[float, int], Baseline]] = {
    "none": lambda decay, hidden_size: NoBaseline(),
    "moving_average": lambda decay, hidden_size: MovingAverage(decay),
    "self_critic": lambda decay, hidden_size: SelfCritic(sample=False),
    "sampled_self_critic": lambda decay, hidden_size: SelfCritic(sample=True),
    "leave_one_out": lambda decay, hidden_size: LeaveOneOut(),
    "nvil": InputDependent,
}


def make_baseline(
    name: BaselineName, decay: float, hidden_size: int, allowed: Collection[BaselineName] = BASELINES
) -> Baseline:
    """The baseline of this name.

    Raises:
        OptionError: if it is not among those allowed, or an option is out of its range.
    """
    if name not in allowed:
        raise OptionError("baseline", f"must be one of {', '.join(allowed)}, got {name!r}")
    if not 0 < decay <= 1:
        raise OptionError("decay", f"must lie in (0, 1], got {decay}")
    if hidden_size < 1:
        raise OptionError("hidden_size", f"must be at least 1, got {hidden_size}")
    return BASELINES[name](decay, hidden_size)
