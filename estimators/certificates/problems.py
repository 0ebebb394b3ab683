"""A fixed family of small problems on which estimators are certified, in float64.

A problem is a loss of a latent vector v (one-hot, bits, or relaxed) and scores that make q flat, peaked or sparse. Each
example has decoder parameters of its own, so that the gradients of many examples come from one backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from estimators.pairs import Latents, Pairs
from estimators.seeds import derived_seed
from estimators.spaces import BitVector, Categorical, Categoricals, Space

HIDDEN = 2


def linear(v: Tensor, parameters: Tensor) -> Tensor:
    """``a . v + 1``."""
    size = v.shape[1]
    return (parameters[:, :size] * v).sum(1) + 1


def quadratic(v: Tensor, parameters: Tensor) -> Tensor:
    """``(a . v - 1)^2 + |v - c|^2``."""
    size = v.shape[1]
    return ((parameters[:, :size] * v).sum(1) - 1) ** 2 + (v - parameters[:, size : 2 * size]).square().sum(1)


def cubic(v: Tensor, parameters: Tensor) -> Tensor:
    """``(a . v + 1)^3 + c . v``."""
    size = v.shape[1]
    return ((parameters[:, :size] * v).sum(1) + 1) ** 3 + (parameters[:, size : 2 * size] * v).sum(1)


def neural(v: Tensor, parameters: Tensor) -> Tensor:
    """``5 (w . tanh(3 W v + b) )^2 + 1``, a decoder of one hidden layer."""
    size = v.shape[1]
    weights = parameters[:, : HIDDEN * size].view(-1, HIDDEN, size)
    bias, out = parameters[:, HIDDEN * size : HIDDEN * (size + 1)], parameters[:, HIDDEN * (size + 1) :]
    hidden = torch.tanh(3 * (weights * v.unsqueeze(1)).sum(2) + bias)
    return 5 * (out * hidden).sum(1).square() + 1


LOSSES: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], Callable[[int], int]]] = {
    "linear": (linear, lambda size: size),
    "quadratic": (quadratic, lambda size: 2 * size),
    "cubic": (cubic, lambda size: 2 * size),
    "neural": (neural, lambda size: HIDDEN * size + 2 * HIDDEN),
}

SCALES = {"flat": 0.3, "sparse": 1.0, "peaked": 2.5}
"""Spread of the scores: sparsemax keeps every state, some of them, or one or two."""


SCORES = [[0.9, -0.43, 0.55, -0.2173, 0.1319, 0.7127], [-0.7, 0.35, 1.1, 0.6441, -0.3127, 0.2253]]
"""Scores of the two examples before they are spread; a latent takes as many as it needs."""


class Latent(NamedTuple):
    """A kind of latent: the number of its scores, and the space that they make."""

    size: int
    space: Callable[[Tensor], Space]


LATENTS: dict[str, Latent] = {
    "categorical": Latent(3, Categorical),
    "bit_vector": Latent(3, BitVector),
    "categoricals": Latent(6, lambda scores: Categoricals(scores, 3)),
    "wide_categorical": Latent(5, Categorical),
}
"""Three states; three bits; two variables of three states each; and five states, for options that three leave no room for."""


@dataclass(frozen=True)
class Problem:
    """A loss and scores of two examples.

    Attributes:
        loss: ``linear``, ``quadratic``, ``cubic`` or ``neural``.
        shape: of q: ``flat``, ``sparse`` or ``peaked``.
        latent: one of :data:`LATENTS`.
    """

    loss: str
    shape: str
    latent: str = "categorical"

    @property
    def name(self) -> str:
        """``loss/shape``."""
        return f"{self.loss}/{self.shape}"

    def _normal(self, part: str, *shape: int) -> Tensor:
        generator = torch.Generator().manual_seed(derived_seed("problem", self.loss, part))
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    @cached_property
    def scores(self) -> Tensor:
        """``[2, V]``."""
        return SCALES[self.shape] * torch.tensor(SCORES, dtype=torch.float64)[:, : self.size]

    @property
    def size(self) -> int:
        """Number of scores, V."""
        return LATENTS[self.latent].size

    def space(self, scores: Tensor) -> Space:
        """The latent variable with these scores, ``[B, V]``."""
        return LATENTS[self.latent].space(scores)

    @cached_property
    def parameters(self) -> Tensor:
        """``[2, P]``: the decoder's, of each example."""
        return self._normal("parameters", 2, LOSSES[self.loss][1](self.size))

    @cached_property
    def context(self) -> Tensor:
        """``[2, 2]``: what a learned baseline may read."""
        return self._normal("context", 2, 2)

    def losses(self, pairs: Pairs, parameters: Tensor) -> Tensor:
        """``[N]``: the losses of pairs whose states are vectors, with ``parameters`` ``[B, P]``."""
        assert isinstance(pairs, Latents)
        return LOSSES[self.loss][0](pairs.value.to(parameters.dtype), pairs.gather(parameters))

    def all_losses(self, parameters: Tensor) -> Tensor:
        """``[B, M]``: the losses of all states."""
        space = self.space(self.scores)
        pairs = Latents.regular_vectors(space.vectors(space.all_states()))
        return self.losses(pairs, parameters).view(len(parameters), -1)


def family(latent: str, losses: Iterable[str] = LOSSES) -> tuple[Problem, ...]:
    """Every one of some losses, by default of all, with every shape of q, for a kind of latent."""
    return tuple(Problem(loss, shape, latent) for loss in losses for shape in SCALES)
