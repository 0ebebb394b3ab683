"""The sender of the published game."""

from __future__ import annotations

from typing import final

from torch import Tensor, nn

from games.agents.base import Sender, check_size
from games.agents.scalar_function import scalar_function


@final
class ScalarFunctionSender(Sender):
    r"""The published sender: one scalar function on every coordinate of the embedded target, with the temperature 10.

    .. math:: s = W_2\, h / T, \qquad h_i = \sigma\Big(\sum_j c_j\, \sigma(b_j\, (W_1 x)_i)\Big)

    with 512 hidden units j, no biases and the temperature T = 10. The sender of the original game convolves the embeddings of
    several candidates; with the target alone that convolution is this function, and is computed as two products.

    Args:
        features: size of the target's feature vector.
        vocabulary_size: number of messages.
        hidden_size: size of the target's embedding.

    Raises:
        OptionError: if an option is out of its range.

    References:
        Lazaridou, Peysakhovich and Baroni (2017), Multi-agent cooperation and the emergence of (natural) language,
        https://arxiv.org/abs/1612.07182.
        Correia, Niculae, Aziz and Martins (2020), https://arxiv.org/abs/2007.01919.
    """

    units = 512
    temperature = 10.0

    def __init__(self, features: int, vocabulary_size: int, *, hidden_size: int = 256) -> None:
        super().__init__()
        check_size("hidden_size", hidden_size)
        self.embed = nn.Linear(features, hidden_size, bias=False)
        self.expand = nn.Linear(1, self.units, bias=False)
        self.contract = nn.Linear(self.units, 1, bias=False)
        self.score = nn.Linear(hidden_size, vocabulary_size, bias=False)

    def forward(self, target: Tensor) -> Tensor:
        embedded = self.embed(target)
        scores: Tensor = self.score(scalar_function(embedded, self.expand.weight, self.contract.weight)) / self.temperature
        return scores
