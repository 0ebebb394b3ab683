"""A sender with one hidden layer."""

from __future__ import annotations

from typing import final

from torch import Tensor, nn

from estimators import start_near_zero
from games.agents.base import Sender, check_size


@final
class MLPSender(Sender):
    """Linear, ReLU, Linear.

    Args:
        features: size of the target's feature vector.
        vocabulary_size: number of messages.
        hidden_size: size of the hidden layer.

    Raises:
        OptionError: if an option is out of its range.

    The last layer starts at a hundredth of its usual scale, so that the first messages are nearly uniform: a sparse mapping of
    larger scores gives most messages no mass from the start, hence no gradient, and they would never come into use.
    """

    def __init__(self, features: int, vocabulary_size: int, *, hidden_size: int = 256) -> None:
        super().__init__()
        check_size("hidden_size", hidden_size)
        self.layers = nn.Sequential(nn.Linear(features, hidden_size), nn.ReLU(), nn.Linear(hidden_size, vocabulary_size))
        start_near_zero(self.layers[-1])

    def forward(self, target: Tensor) -> Tensor:
        scores: Tensor = self.layers(target)
        return scores
