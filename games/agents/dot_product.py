"""A receiver that compares embeddings."""

from __future__ import annotations

from typing import final

from torch import Tensor, nn

from estimators import LatentLinear, Latents, dot_products
from games.agents.base import Receiver, check_size


@final
class DotProductReceiver(Receiver):
    """Dot products of the candidates' embeddings with the message's.

    Args:
        features: size of a candidate's feature vector.
        vocabulary_size: number of messages.
        hidden_size: size of the embeddings.

    Raises:
        OptionError: if an option is out of its range.

    No bias: it would add the same to every candidate's score.
    """

    def __init__(self, features: int, vocabulary_size: int, *, hidden_size: int = 256) -> None:
        super().__init__()
        check_size("hidden_size", hidden_size)
        self.candidates = nn.Linear(features, hidden_size, bias=False)
        self.messages = LatentLinear(vocabulary_size, hidden_size)

    def embed(self, candidates: Tensor) -> Tensor:
        embedded: Tensor = self.candidates(candidates)
        return embedded

    def forward(self, messages: Latents, embedded: Tensor) -> Tensor:
        return dot_products(self.messages, messages, embedded)
