"""A temperature that falls as training goes on: with every call in training mode, which is one a step in most models."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from estimators.options import OptionError


class Temperature(nn.Module):
    """``max(minimum, initial * exp(-rate * t'))`` after t calls in training, t' the last multiple of ``update_every``.

    Args:
        temperature: initial temperature, above 0.
        minimum_temperature: the temperature never falls below this; above 0, and at most the initial one.
        decay_rate: rate of the exponential decay per call; 0 keeps the temperature as it is.
        update_every: calls between two updates.

    Raises:
        OptionError: if an option is out of its range; it names the argument.
    """

    steps: Tensor

    def __init__(self, temperature: float, minimum_temperature: float, decay_rate: float, update_every: int) -> None:
        super().__init__()
        if not 0 < minimum_temperature <= temperature < math.inf:
            raise OptionError("minimum_temperature", f"must lie in (0, temperature = {temperature}], got {minimum_temperature}")
        if not 0 <= decay_rate < math.inf:
            raise OptionError("decay_rate", f"must not be negative, got {decay_rate}")
        if update_every < 1:
            raise OptionError("update_every", f"must be at least 1, got {update_every}")
        self.initial = temperature
        self.minimum = minimum_temperature
        self.decay_rate = decay_rate
        self.update_every = update_every
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self) -> Tensor:
        """The temperature of the next sample, ``[]``, computed where the state lives so that nothing waits for it."""
        elapsed = (self.steps // self.update_every * self.update_every).double()
        return (self.initial * torch.exp(-self.decay_rate * elapsed)).clamp(min=self.minimum)

    def step(self) -> None:
        """The temperature has been used; in training this counts as a step."""
        if self.training:
            self.steps += 1
