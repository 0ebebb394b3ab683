"""What the players of a signaling game are. Nothing in them knows which estimator trains them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor, nn

from estimators import Latents, OptionError


class Agent(nn.Module, ABC):
    """A player. It is made from the size of an image's features and the number of messages; all else are its options."""


class Sender(Agent):
    """Scores of the messages from the target's features, made by ``Sender(features, vocabulary_size, *, <options>)``."""

    __call__: Callable[..., Tensor]

    @abstractmethod
    def forward(self, target: Tensor) -> Tensor:
        """``[B, F]`` to scores ``[B, K]``."""


class Receiver(Agent):
    """Scores of the candidates from a message, made by ``Receiver(features, vocabulary_size, *, <options>)``."""

    __call__: Callable[..., Tensor]

    @abstractmethod
    def embed(self, candidates: Tensor) -> Tensor:
        """Candidates ``[B, C, F]`` to what :meth:`forward` reads, ``[B, C, ...]``, once for all messages of an example."""

    @abstractmethod
    def forward(self, messages: Latents, embedded: Tensor) -> Tensor:
        """Scores ``[N, C]`` of the candidates for each of N messages."""


def check_size(option: str, size: int) -> None:
    """Refuse a size below one.

    Raises:
        OptionError: naming the option.
    """
    if size < 1:
        raise OptionError(option, f"must be at least 1, got {size}")
