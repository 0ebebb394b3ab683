"""What a latent variable is: its states, a distribution q over them, and what can be done with both.

An estimator asks a space for what it needs and knows no kind of latent by name. What a space can do are its *capabilities*:
the methods in :data:`CAPABILITIES` that its class implements and its size allows.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from estimators.draws import Draws
from estimators.pairs import Pairs
from estimators.relaxations import NoisyScores

MOST_STATES = 1 << 16
"""States of a product of variables that are enumerated, as those of 16 bits."""

Capability = Literal[
    "sample",
    "log_probability",
    "entropy",
    "score",
    "argmax",
    "k_best",
    "without_replacement",
    "sample_outside",
    "all_states",
    "noisy_scores",
    "reparameterize",
    "bit_scores",
]

CAPABILITIES: dict[Capability, str] = {
    "sample": "draw samples",
    "log_probability": "give the log-probability of a state",
    "entropy": "give the entropy of q",
    "score": "give the unnormalised score of a state",
    "argmax": "find the most likely state",
    "k_best": "find the k best states",
    "without_replacement": "draw distinct states",
    "sample_outside": "draw a state outside a set",
    "all_states": "enumerate its states",
    "noisy_scores": "be relaxed",
    "reparameterize": "be reparameterised",
    "bit_scores": "be told as scores of independent bits",
}
"""What a space may be able to do, by the method that does it, in words."""


class Incapable(TypeError):
    """A space was asked for what it cannot do."""


class Distinct(NamedTuple):
    """Distinct states drawn one after another, in no particular order.

    Attributes:
        states: ``S`` of each example.
        keep: ``[B, S]``, which of them have any mass; an example may have fewer than ``S`` of those.
        outside: ``[B]``, the mass of all other states.
    """

    states: Tensor
    keep: Tensor
    outside: Tensor


class Space(ABC):
    """A latent variable and, for each of B examples, a distribution q over its states.

    *States* are tensors ``[B, S, ...]``, S of each example; what follows the first two axes is the space's own. Methods that
    not every space has raise :class:`Incapable` where they are missing; :meth:`lacks` says so beforehand.

    Attributes:
        name: of the kind of latent.
        batch_size: number of examples, B.
        dtype: floating-point type of probabilities.
        device: of all tensors.
        listed: whether the score of every state is there from the start; else states are made of parts, and many.
    """

    name: ClassVar[str]
    listed: ClassVar[bool] = False
    batch_size: int
    dtype: torch.dtype
    device: torch.device

    @property
    def states(self) -> float:
        """How many states there are; infinity where they cannot be counted."""
        return math.inf

    @property
    @abstractmethod
    def leaf(self) -> Tensor:
        """``[B, ...]``: what q is made of and differentiated in."""

    @abstractmethod
    def rebuilt(self, leaf: Tensor) -> Space:
        """The same kind of latent with another :attr:`leaf`."""

    @abstractmethod
    def select(self, states: Tensor, keep: Tensor | None = None) -> Pairs:
        """The pairs of ``states``, or of those where ``keep`` ``[B, S]`` is true."""

    def lacks(self, capability: Capability) -> str:
        """Why this space cannot do something; nothing, if it can."""
        if getattr(type(self), capability) is getattr(Space, capability):
            return f"a {self.name} latent cannot {CAPABILITIES[capability]}"
        if capability == "all_states" and not self.listed and self.states > MOST_STATES:
            return f"this {self.name} latent has {written(self.states)} states, and at most {MOST_STATES:,} are enumerated"
        return ""

    def _incapable(self, capability: Capability) -> Incapable:
        return Incapable(f"a {self.name} latent cannot {CAPABILITIES[capability]}")

    # What a space may be able to do.

    def sample(self, draws: Draws, samples: int) -> Tensor:
        """Independent samples: states, ``S = samples``."""
        raise self._incapable("sample")

    def log_probability(self, states: Tensor) -> Tensor:
        """``[B, S]``: log q of states, differentiable."""
        raise self._incapable("log_probability")

    def weigh(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """:meth:`log_probability` of states and :meth:`entropy`, at the cost of one where they share their work."""
        entropy = self.entropy()
        return self.log_probability(states), entropy

    def probability(self, states: Tensor) -> Tensor:
        """``[B, S]``: q of states, differentiable."""
        return self.log_probability(states).exp()

    def entropy(self) -> Tensor:
        """``[B]``: the entropy of q in nats, differentiable. What has no mass adds nothing, to its gradient neither."""
        raise self._incapable("entropy")

    def score(self, states: Tensor) -> Tensor:
        """``[B, S]``: the unnormalised log-probability of states, differentiable."""
        raise self._incapable("score")

    def argmax(self) -> Tensor:
        """States, ``S = 1``: the most likely one, the first of several."""
        raise self._incapable("argmax")

    def k_best(self, k: int) -> Tensor:
        """States, ``S = min(k, states)``: the most likely ones, best first. Exact."""
        raise self._incapable("k_best")

    def without_replacement(self, draws: Draws, samples: int) -> Distinct:
        """Distinct states, ``S = min(samples, states)``, drawn one after another in proportion to q."""
        raise self._incapable("without_replacement")

    def sample_outside(self, draws: Draws, states: Tensor) -> tuple[Tensor, Tensor]:
        """A sample of q given that it is none of some distinct ``states``: a state, ``S = 1``, and the mass outside, ``[B]``.

        Where nothing is outside, the mass is zero and the state any.
        """
        raise self._incapable("sample_outside")

    def all_states(self) -> Tensor:
        """States: every one, in a fixed order.

        Raises:
            ValueError: if there are too many states to enumerate.
        """
        raise self._incapable("all_states")

    def noisy_scores(self) -> NoisyScores:
        """The scores as what noise turns into samples, hard or relaxed."""
        raise self._incapable("noisy_scores")

    @property
    def mean(self) -> Tensor:
        """``[B, V]``: the mean of q's vectors, differentiable."""
        raise self._incapable("noisy_scores")

    def vectors(self, states: Tensor) -> Tensor:
        """``[B, S, V]``: states as vectors, which is what noisy scores make."""
        raise self._incapable("noisy_scores")

    def reparameterize(self, draws: Draws, samples: int) -> Tensor:
        """Independent samples: states, ``S = samples``, differentiable."""
        raise self._incapable("reparameterize")

    def bit_scores(self) -> Tensor:
        """``[B, D]``: the scores of independent bits, differentiable."""
        raise self._incapable("bit_scores")

    # What follows from being able to enumerate the states.

    def check_enumerable(self) -> None:
        """Refuse to enumerate more states than any use could have.

        Raises:
            ValueError: if there are too many.
        """
        if reason := self.lacks("all_states"):
            raise ValueError(reason)

    def code(self, states: Tensor) -> Tensor:
        """``[B, S]`` int64: the place of each state among all states."""
        raise self._incapable("all_states")

    def at(self, places: Tensor) -> Tensor:
        """States: those at some places ``[B, S]`` among all."""
        every = self.all_states()
        return every.gather(1, places.view(*places.shape, *[1] * (every.ndim - 2)).expand(-1, -1, *every.shape[2:]))

    def enumerate(self) -> Pairs:
        """Every state of every example."""
        return self.select(self.all_states())

    @property
    def all_scores(self) -> Tensor:
        """``[B, states]``: the score of every state, differentiable."""
        return self.score(self.all_states())

    @property
    def probabilities(self) -> Tensor:
        """``[B, states]``: q of every state, differentiable."""
        return self.log_probability(self.all_states()).exp()

    def scatter(self, states: Tensor, weights: Tensor) -> Tensor:
        """``[B, states]``: ``weights`` ``[B, S]`` in the places of their states, zero elsewhere; differentiable.

        Raises:
            ValueError: if there are too many states to enumerate.
        """
        self.check_enumerable()
        return weights.new_zeros(self.batch_size, int(self.states)).scatter_add(1, self.code(states), weights)

    def full(self, value: float, *shape: int) -> Tensor:
        """A constant of the type and on the device of the probabilities."""
        return torch.full(shape, value, dtype=self.dtype, device=self.device)


def written(states: float) -> str:
    """A number of states as it is read: ``1,024``, ``2^32``, ``about 10^31``."""
    if not math.isfinite(states):
        return "infinitely many"
    exponent = math.log2(states)
    if states <= MOST_STATES:
        return f"{int(states):,}"
    return f"2^{exponent:.0f}" if exponent.is_integer() else f"about 10^{math.log10(states):.0f}"


def as_scores(scores: Tensor) -> Tensor:
    """Scores in at least single precision: the mathematics of q is never done in half precision.

    Raises:
        ValueError: if the scores are not a floating-point matrix ``[B, V]`` with at least one row and one column.
    """
    if scores.ndim != 2 or scores.numel() == 0 or not scores.is_floating_point():
        raise ValueError(f"scores must be floating point [B, K] and not empty, got {scores.dtype} {list(scores.shape)}")
    return scores.float() if scores.dtype in (torch.bfloat16, torch.float16) else scores


def refuse(sound: Tensor, scores: Tensor, wrong: str) -> None:
    """Raise FloatingPointError if any row of scores is not ``sound`` ``[B]``, naming the first."""
    if not sound.all():
        row = int(sound.logical_not().nonzero()[0])
        raise FloatingPointError(f"the scores of example {row} {wrong}: {scores[row].tolist()[:8]}")
