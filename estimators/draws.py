"""Randomness as an argument: the same estimator runs on random draws, or on every possible outcome in turn.

Estimators never touch a random generator. They ask a :class:`Draws` for what they need; :class:`RandomDraws` answers from a
``torch.Generator``, and :func:`enumerate_outcomes` answers with each possible outcome and its probability, so that the exact
expectation and variance of an estimator can be computed without any statistical tolerance.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch import Tensor

Outcome = TypeVar("Outcome")


def derived_seed(*parts: int | str) -> int:
    """A 32-bit seed of a stream of random numbers that ``parts`` name, unrelated to that of any other stream.

    Torch's CPU generator reads no more than 32 bits of a seed: ``seed`` and ``seed + 2**32`` start the same stream.
    """
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "big")


class Draws(ABC):
    """Where an estimator gets its random numbers from."""

    @abstractmethod
    def categorical(self, probabilities: Tensor, samples: int) -> Tensor:
        """``[B, samples]`` int64: independent samples, with replacement, of each row of ``probabilities`` ``[B, K]``."""

    @abstractmethod
    def gumbel(self, like: Tensor) -> Tensor:
        """Independent standard Gumbel noise with the shape, type and device of ``like``."""


class RandomDraws(Draws):
    """Draws from a ``torch.Generator`` (None: torch's default one)."""

    def __init__(self, generator: torch.Generator | None = None) -> None:
        self.generator = generator

    def _exponential(self, like: Tensor) -> Tensor:
        # Zero would give 0/0 for a state of zero probability, and an infinite Gumbel.
        noise = torch.empty_like(like, memory_format=torch.contiguous_format, requires_grad=False)
        return noise.exponential_(generator=self.generator).clamp_(min=torch.finfo(like.dtype).tiny)

    def categorical(self, probabilities: Tensor, samples: int) -> Tensor:
        # The largest of p / Exp(1) is a sample of p, and never a state of zero probability.
        rates = probabilities.detach().unsqueeze(1).expand(-1, samples, -1)
        return (rates / self._exponential(rates)).argmax(-1)

    def gumbel(self, like: Tensor) -> Tensor:
        return -self._exponential(like.detach()).log()


class _ScriptedDraws(Draws):
    """Follows a script of choices; where it ends, takes the first possible outcome and extends the script."""

    def __init__(self, script: list[int]) -> None:
        self.script = script
        self.options: list[int] = []
        self.probability = 1.0

    def _choose(self, probabilities: Tensor) -> int:
        possible = probabilities.nonzero()[:, 0].tolist()
        position = len(self.options)
        if position == len(self.script):
            self.script.append(0)
        self.options.append(len(possible))
        state: int = possible[self.script[position]]
        self.probability *= float(probabilities[state])
        return state

    def categorical(self, probabilities: Tensor, samples: int) -> Tensor:
        rows = [[self._choose(row) for _ in range(samples)] for row in probabilities.detach()]
        return torch.tensor(rows, dtype=torch.int64, device=probabilities.device)

    def gumbel(self, like: Tensor) -> Tensor:
        raise TypeError("Gumbel noise is continuous: its outcomes cannot be enumerated")


def enumerate_outcomes(program: Callable[[Draws], Outcome]) -> Iterator[tuple[float, Outcome]]:
    """Run ``program`` once for every possible outcome of the draws it makes.

    Args:
        program: deterministic but for the draws it is given; later draws may depend on earlier ones.

    Yields:
        The probability of an outcome and what the program returned for it; the probabilities sum to one.

    Raises:
        TypeError: if the program asks for continuous noise.
    """
    script: list[int] = []
    while True:
        draws = _ScriptedDraws(script)
        result = program(draws)
        yield draws.probability, result
        while script and script[-1] + 1 == draws.options[len(script) - 1]:
            script.pop()
        if not script:
            return
        script[-1] += 1
