"""Randomness as an argument: the same estimator runs on random draws, or on every possible outcome in turn.

Estimators never touch a random generator. They ask a :class:`Draws` for what they need; :class:`RandomDraws` answers from a
``torch.Generator``, and :func:`enumerate_outcomes` answers with each possible outcome and its probability, so that the exact
expectation and variance of an estimator can be computed without any statistical tolerance.
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from estimators.softmax import row_chunks

Outcome = TypeVar("Outcome")

MOST_ENUMERATED = 4
"""Antithetic samples whose 2^n patterns are enumerated."""


class Draws(ABC):
    """Where an estimator gets its random numbers from. No draw carries a gradient."""

    @abstractmethod
    def categorical(self, probabilities: Tensor, samples: int) -> Tensor:
        """``[B, samples]`` int64: independent samples, with replacement, of each row of ``probabilities`` ``[B, K]``."""

    @abstractmethod
    def without_replacement(self, probabilities: Tensor, samples: int) -> Tensor:
        """``[B, samples]`` int64: distinct states, drawn one after another in proportion to ``probabilities`` ``[B, K]``.

        Where a row has fewer states of any probability, others follow them.
        """

    @abstractmethod
    def bernoulli(self, probabilities: Tensor) -> Tensor:
        """Independent bits, 0 or 1, with the shape and type of ``probabilities``."""

    @abstractmethod
    def antithetic_bits(self, probabilities: Tensor, samples: int) -> Tensor:
        """``[B, samples, D]``: bits of ``probabilities`` ``[B, D]``, the samples of a bit negatively coupled.

        They compare the uniforms ``u_i = 1 - (1 - d_i) ** (n - 1)`` of a Dirichlet copula with ``p``,
        ``d ~ Dirichlet(1, ..., 1)``: ``u`` and ``1 - u`` for two samples. Dimitriev and Zhou (2021), https://arxiv.org/abs/2105.14141.
        """

    @abstractmethod
    def gumbel(self, like: Tensor) -> Tensor:
        """Independent standard Gumbel noise with the shape, type and device of ``like``."""

    @abstractmethod
    def logistic(self, like: Tensor) -> Tensor:
        """Independent standard logistic noise with the shape, type and device of ``like``."""

    @abstractmethod
    def normal(self, like: Tensor) -> Tensor:
        """Independent standard normal noise with the shape, type and device of ``like``."""


def copula_threshold(probabilities: Tensor, samples: int) -> Tensor:
    """What a Dirichlet variable is compared with for a bit of this probability: ``1 - (1 - p) ** (1 / (n - 1))``."""
    return -torch.expm1(torch.log1p(-probabilities) / (samples - 1))


class RandomDraws(Draws):
    """Draws from a ``torch.Generator`` (None: torch's default one)."""

    def __init__(self, generator: torch.Generator | None = None) -> None:
        self.generator = generator

    def _uniform(self, like: Tensor, shape: Sequence[int]) -> Tensor:
        # In single precision there would be no numbers between 0 and 6e-8.
        return torch.rand(shape, generator=self.generator, dtype=torch.float64, device=like.device)

    def _exponential(self, like: Tensor) -> Tensor:
        # Several times faster on a CPU than Tensor.exponential_.
        uniform = self._uniform(like, like.shape)
        # Zero would give 0/0 for a state of zero probability, and an infinite Gumbel.
        return uniform.neg_().log1p_().neg_().to(like.dtype).clamp_(min=torch.finfo(like.dtype).tiny)

    def categorical(self, probabilities: Tensor, samples: int) -> Tensor:
        # The first state whose cumulative probability exceeds a uniform number: never one of zero probability.
        probabilities = probabilities.detach()
        uniform = self._uniform(probabilities, (len(probabilities), samples))
        chosen = torch.empty_like(uniform, dtype=torch.int64)
        memory = None
        for rows in row_chunks(probabilities):
            part = probabilities[rows]
            memory = torch.empty_like(part, dtype=torch.float64) if memory is None else memory[: len(part)]
            cumulative = torch.cumsum(part, -1, dtype=torch.float64, out=memory)
            chosen[rows] = torch.searchsorted(cumulative, uniform[rows] * cumulative[:, -1:], right=True)
        return chosen

    def without_replacement(self, probabilities: Tensor, samples: int) -> Tensor:
        # The largest ones of p / Exp(1), largest first, are such a sequence.
        rates = probabilities.detach()
        return (rates / self._exponential(rates)).topk(samples, -1).indices

    def bernoulli(self, probabilities: Tensor) -> Tensor:
        return (self._uniform(probabilities, probabilities.shape) < probabilities.detach()).to(probabilities.dtype)

    def antithetic_bits(self, probabilities: Tensor, samples: int) -> Tensor:
        probabilities = probabilities.detach().unsqueeze(1)
        noise = self._exponential(probabilities.expand(-1, samples, -1))
        threshold = copula_threshold(probabilities, samples)
        return (noise < threshold * noise.sum(1, keepdim=True)).to(probabilities.dtype)

    def gumbel(self, like: Tensor) -> Tensor:
        return -self._exponential(like.detach()).log()

    def logistic(self, like: Tensor) -> Tensor:
        # The difference of the logarithms of two exponential variables.
        return self._exponential(like.detach()).log() - self._exponential(like.detach()).log()

    def normal(self, like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=self.generator, dtype=like.dtype, device=like.device)


class _ScriptedDraws(Draws):
    """Follows a script of choices; where it ends, takes the first possible outcome and extends the script."""

    def __init__(self, script: list[int]) -> None:
        self.script = script
        self.options: list[int] = []
        self.probability = 1.0

    def _choose(self, probabilities: Sequence[float]) -> int:
        """One of the outcomes that have any probability."""
        possible = [outcome for outcome, probability in enumerate(probabilities) if probability > 0]
        position = len(self.options)
        if position == len(self.script):
            self.script.append(0)
        self.options.append(len(possible))
        outcome = possible[self.script[position]]
        self.probability *= probabilities[outcome]
        return outcome

    def categorical(self, probabilities: Tensor, samples: int) -> Tensor:
        rows = [[self._choose(row) for _ in range(samples)] for row in probabilities.tolist()]
        return torch.tensor(rows, dtype=torch.int64, device=probabilities.device)

    def without_replacement(self, probabilities: Tensor, samples: int) -> Tensor:
        sequences = []
        for row in probabilities.tolist():
            sequence: list[int] = []
            for _ in range(samples):
                left = [0.0 if state in sequence else probability for state, probability in enumerate(row)]
                if sum(left) > 0:
                    sequence.append(self._choose([probability / sum(left) for probability in left]))
                else:
                    sequence.append(min(set(range(len(row))) - set(sequence)))
            sequences.append(sequence)
        return torch.tensor(sequences, dtype=torch.int64, device=probabilities.device)

    def bernoulli(self, probabilities: Tensor) -> Tensor:
        bits = [self._choose([1 - p, p]) for p in probabilities.flatten().tolist()]
        return torch.tensor(bits, dtype=probabilities.dtype, device=probabilities.device).view_as(probabilities)

    def antithetic_bits(self, probabilities: Tensor, samples: int) -> Tensor:
        if samples > MOST_ENUMERATED:
            raise TypeError(f"the patterns of {samples} antithetic bits are too many to enumerate")
        patterns = list(itertools.product((0, 1), repeat=samples))
        bits = [patterns[self._choose(pattern_probabilities(p, samples))] for p in probabilities.flatten().tolist()]
        chosen = torch.tensor(bits, dtype=probabilities.dtype, device=probabilities.device)
        return chosen.view(*probabilities.shape, samples).transpose(1, 2)

    def gumbel(self, like: Tensor) -> Tensor:
        raise TypeError("Gumbel noise is continuous: its outcomes cannot be enumerated")

    def logistic(self, like: Tensor) -> Tensor:
        raise TypeError("logistic noise is continuous: its outcomes cannot be enumerated")

    def normal(self, like: Tensor) -> Tensor:
        raise TypeError("normal noise is continuous: its outcomes cannot be enumerated")


def pattern_probabilities(p: float, samples: int) -> list[float]:
    r"""The probability of each pattern of ``samples`` bits of probability ``p`` that a Dirichlet copula couples.

    ``r`` given Dirichlet variables all exceed ``t`` with probability ``(1 - r t)_+ ** (n - 1)``; inclusion and exclusion give
    that exactly those of a pattern do. Patterns are in the order of ``itertools.product((0, 1), repeat=samples)``.
    """
    threshold = 1 - (1 - p) ** (1 / (samples - 1))

    def exceed(r: int) -> float:
        return float(max(1 - r * threshold, 0.0) ** (samples - 1))

    def exactly(zeros: int) -> float:
        terms = ((-1) ** more * math.comb(samples - zeros, more) * exceed(zeros + more) for more in range(samples - zeros + 1))
        probability = math.fsum(terms)
        return probability if probability > 1e-15 else 0.0

    return [exactly(pattern.count(0)) for pattern in itertools.product((0, 1), repeat=samples)]


def enumerate_outcomes(program: Callable[[Draws], Outcome]) -> Iterator[tuple[float, Outcome]]:
    """Run ``program`` once for every possible outcome of the draws it makes.

    Args:
        program: deterministic but for the draws it is given; later draws may depend on earlier ones.

    Yields:
        The probability of an outcome and what the program returned for it; the probabilities sum to one.

    Raises:
        TypeError: if the program asks for continuous noise, or for draws with too many outcomes.
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
