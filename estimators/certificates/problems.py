"""A fixed family of small problems on which estimators are certified, in float64.

A problem is a loss of a latent vector v (one-hot, bits, or relaxed) and scores that make q flat, peaked or sparse. Each
example has decoder parameters of its own, so that the gradients of many examples come from one backward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from estimators.pairs import Latents
from estimators.seeds import derived_seed
from estimators.spaces import Space

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


SCORES = [[0.9, -0.43, 0.55], [-0.7, 0.35, 1.1]]
"""Scores of the two examples before they are spread: three states, or three bits."""


@dataclass(frozen=True)
class Problem:
    """A loss and scores of two examples.

    Attributes:
        loss: ``linear``, ``quadratic``, ``cubic`` or ``neural``.
        shape: of q: ``flat``, ``sparse`` or ``peaked``.
    """

    loss: str
    shape: str

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
        return SCALES[self.shape] * torch.tensor(SCORES, dtype=torch.float64)

    @cached_property
    def parameters(self) -> Tensor:
        """``[2, P]``: the decoder's, of each example."""
        return self._normal("parameters", 2, LOSSES[self.loss][1](len(SCORES[0])))

    @cached_property
    def context(self) -> Tensor:
        """``[2, 2]``: what a learned baseline may read."""
        return self._normal("context", 2, 2)

    def losses(self, latents: Latents, parameters: Tensor) -> Tensor:
        """``[N]``: the losses of pairs, with ``parameters`` ``[B, P]``."""
        return LOSSES[self.loss][0](latents.value.to(parameters.dtype), latents.gather(parameters))

    def all_losses(self, space: type[Space], scores: Tensor, parameters: Tensor) -> Tensor:
        """``[B, M]``: the losses of all states."""
        return self.losses(space(scores).enumerate(), parameters).view(len(scores), -1)


FAMILY = tuple(Problem(loss, shape) for loss in LOSSES for shape in SCALES)
"""Every loss with every shape of q."""
