"""The networks of the latent-variable models: plain modules. Nothing in them knows which estimator trains them."""

from __future__ import annotations

import itertools

from torch import Tensor, nn

from estimators import LatentLinear, Latents


def mlp(*sizes: int) -> nn.Sequential:
    """Linear layers between these sizes, with a ReLU between two of them."""
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class LatentMLP(nn.Module):
    """An MLP whose input is a latent, and, where ``features`` is above zero, a vector as well.

    Args:
        states: length of the latent: categories, bits, or dimensions.
        hidden: sizes of the hidden layers, one or more.
        outputs: size of the output.
        features: size of the vector.

    The first layer's product with a vector that belongs to the example is made once for all of its pairs (:meth:`project`).
    """

    def __init__(self, states: int, hidden: tuple[int, ...], outputs: int, features: int = 0) -> None:
        super().__init__()
        self.latent = LatentLinear(states, hidden[0], bias=not features)
        self.vector = nn.Linear(features, hidden[0]) if features else None
        self.rest = nn.Sequential(nn.ReLU(), mlp(*hidden, outputs))

    def project(self, vectors: Tensor) -> Tensor:
        """``[B, F]`` or ``[N, F]`` to the first hidden layer ``[..., H]``."""
        assert self.vector is not None
        projected: Tensor = self.vector(vectors)
        return projected

    def forward(self, latents: Latents, projected: Tensor | None = None) -> Tensor:
        """``N`` pairs, and their projected vectors ``[N, H]``, to ``[N, O]``."""
        hidden = self.latent(latents)
        outputs: Tensor = self.rest(hidden if projected is None else hidden + projected)
        return outputs
