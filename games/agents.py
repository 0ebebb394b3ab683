"""The players of a signaling game. Nothing in them knows which estimator trains them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn

from estimators import LatentLinear, Latents, dot_products, start_near_zero
from games.scalar_function import scalar_function


class MLPSender(nn.Module):
    """Scores of the messages from the target's features: Linear, ReLU, Linear.

    Args:
        features: size of the target's feature vector.
        hidden_size: size of the hidden layer.
        vocabulary_size: number of messages.

    The last layer starts at a hundredth of its usual scale, so that the first messages are nearly uniform: a sparse mapping of
    larger scores gives most messages no mass from the start, hence no gradient, and they would never come into use.
    """

    def __init__(self, features: int, hidden_size: int, vocabulary_size: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(features, hidden_size), nn.ReLU(), nn.Linear(hidden_size, vocabulary_size))
        start_near_zero(self.layers[-1])

    def forward(self, target: Tensor) -> Tensor:
        """``[B, F]`` to scores ``[B, K]``."""
        return self.layers(target)


class ScalarFunctionSender(nn.Module):
    r"""The published sender: one scalar function on every coordinate of the embedded target.

    .. math:: s = W_2\, h / T, \qquad h_i = \sigma\Big(\sum_j c_j\, \sigma(b_j\, (W_1 x)_i)\Big)

    with 512 hidden units j, no biases and the temperature T = 10. The sender of the original game convolves the embeddings of
    several candidates; with the target alone that convolution is this function, and is computed as two products.

    Args:
        features: size of the target's feature vector.
        hidden_size: size of its embedding.
        vocabulary_size: number of messages.

    References:
        Lazaridou, Peysakhovich and Baroni (2017), Multi-agent cooperation and the emergence of (natural) language,
        https://arxiv.org/abs/1612.07182.
        Correia, Niculae, Aziz and Martins (2020), https://arxiv.org/abs/2007.01919.
    """

    units = 512
    temperature = 10.0

    def __init__(self, features: int, hidden_size: int, vocabulary_size: int) -> None:
        super().__init__()
        self.embed = nn.Linear(features, hidden_size, bias=False)
        self.expand = nn.Linear(1, self.units, bias=False)
        self.contract = nn.Linear(self.units, 1, bias=False)
        self.score = nn.Linear(hidden_size, vocabulary_size, bias=False)

    def forward(self, target: Tensor) -> Tensor:
        """``[B, F]`` to scores ``[B, K]``."""
        hidden = scalar_function(self.embed(target), self.expand.weight, self.contract.weight)
        return self.score(hidden) / self.temperature


class DotProductReceiver(nn.Module):
    """Scores of the candidates: dot products of their embeddings with the message's.

    Args:
        features: size of a candidate's feature vector.
        hidden_size: size of the embeddings.
        vocabulary_size: number of messages.

    No bias: it would add the same to every candidate's score.
    """

    def __init__(self, features: int, hidden_size: int, vocabulary_size: int) -> None:
        super().__init__()
        self.candidates = nn.Linear(features, hidden_size, bias=False)
        self.messages = LatentLinear(vocabulary_size, hidden_size)

    def embed(self, candidates: Tensor) -> Tensor:
        """Candidates ``[B, C, F]`` to ``[B, C, H]``, once for all messages of an example."""
        return self.candidates(candidates)

    def forward(self, messages: Latents, embedded: Tensor) -> Tensor:
        """Scores ``[N, C]`` of the candidates for each of N messages."""
        return dot_products(self.messages, messages, embedded)


SenderName = Literal["mlp", "published"]

SENDERS: dict[SenderName, Callable[[int, int, int], nn.Module]] = {
    "mlp": MLPSender,
    "published": ScalarFunctionSender,
}
