"""Discrete latent variables: the space of their states, and the distribution that unnormalised scores give over it.

An estimator that uses nothing but the protocol :class:`Space` works for every kind of latent.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from estimators.draws import Draws
from estimators.pairs import Latents
from estimators.softmax import NO_MASS, entropy, weigh

MOST_STATES = 1 << 16
"""States that an enumeration of bit vectors may have: those of 16 bits."""


def as_scores(scores: Tensor) -> Tensor:
    """Scores in at least single precision: the mathematics of q is never done in half precision.

    Raises:
        ValueError: if the scores are not a floating-point matrix ``[B, K]`` with at least one row and one column.
    """
    if scores.ndim != 2 or scores.numel() == 0 or not scores.is_floating_point():
        raise ValueError(f"scores must be floating point [B, K] and not empty, got {scores.dtype} {list(scores.shape)}")
    return scores.float() if scores.dtype in (torch.bfloat16, torch.float16) else scores


def _refuse(sound: Tensor, scores: Tensor, wrong: str) -> None:
    if not sound.all():
        row = int(sound.logical_not().nonzero()[0])
        raise FloatingPointError(f"the scores of example {row} {wrong}: {scores[row].tolist()[:8]}")


class Space(ABC):
    """The states of a latent variable and a distribution q over them, one for each row of ``scores`` ``[B, V]``.

    *States* are tensors ``[B, S]`` of indices (:class:`Categorical`) or ``[B, S, D]`` of bits (:class:`BitVector`).

    Args:
        scores: ``[B, V]``, unnormalised; ``-inf`` masks.

    Raises:
        FloatingPointError: if a row of scores defines no distribution (NaN, +inf, or every state masked).
        ValueError: if the scores are not a floating-point matrix with at least one column.
    """

    name: ClassVar[str]

    def __init__(self, scores: Tensor) -> None:
        self.scores = as_scores(scores)
        self.batch_size, self.size = scores.shape
        self._check()

    @abstractmethod
    def _check(self) -> None:
        """Refuse scores that define no distribution."""

    @property
    @abstractmethod
    def states(self) -> int:
        """How many states there are: ``K``, or ``2 ** D``."""

    @abstractmethod
    def _check_enumerable(self) -> None:
        """Refuse to enumerate more states than any use could have."""

    @property
    @abstractmethod
    def mean(self) -> Tensor:
        """``[B, V]``: E_q[z], the probabilities of the states or of the bits; differentiable."""

    @abstractmethod
    def sample(self, draws: Draws, samples: int) -> Tensor:
        """Independent samples: states, ``S = samples``."""

    @abstractmethod
    def score(self, states: Tensor) -> Tensor:
        """``[B, S]``: the unnormalised log-probability of states, differentiable."""

    @abstractmethod
    def log_probability(self, states: Tensor) -> Tensor:
        """``[B, S]``: log q of states, differentiable."""

    @abstractmethod
    def entropy(self) -> Tensor:
        """``[B]``: the entropy of q in nats, differentiable. What has no mass adds nothing, to its gradient neither."""

    @abstractmethod
    def weigh(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """:meth:`log_probability` of states and :meth:`entropy`, at the cost of one."""

    @abstractmethod
    def argmax(self) -> Tensor:
        """States, ``S = 1``: the most likely one, the first of several."""

    @abstractmethod
    def k_best(self, k: int) -> Tensor:
        """States, ``S = min(k, states)``: the most likely ones, best first. Exact."""

    @abstractmethod
    def all_states(self) -> Tensor:
        """States: every one, in order of :meth:`code`."""

    @abstractmethod
    def code(self, states: Tensor) -> Tensor:
        """``[B, S]`` int64: the place of each state among all states."""

    @abstractmethod
    def vectors(self, states: Tensor) -> Tensor:
        """``[B, S, V]``: the one-hot vectors or bits of states."""

    @abstractmethod
    def select(self, states: Tensor, keep: Tensor | None = None) -> Latents:
        """The pairs of ``states``, or of those where ``keep`` ``[B, S]`` is true."""

    @abstractmethod
    def enumerate(self) -> Latents:
        """Every state of every example."""

    @property
    def probabilities(self) -> Tensor:
        """``[B, states]``: q of every state, differentiable."""
        return self.log_probability(self.all_states()).exp()

    def scatter(self, states: Tensor, weights: Tensor) -> Tensor:
        """``[B, states]``: ``weights`` ``[B, S]`` in the places of their states, zero elsewhere; differentiable.

        Raises:
            ValueError: if there are too many states to enumerate.
        """
        self._check_enumerable()
        return weights.new_zeros(self.batch_size, self.states).scatter_add(1, self.code(states), weights)


class Categorical(Space):
    """One of ``K`` states, ``q(z = k) = softmax(scores)_k`` for each row of ``scores`` ``[B, K]``; ``-inf`` masks a state."""

    name: ClassVar[str] = "categorical"

    def _check(self) -> None:
        largest = self.scores.detach().amax(1)
        _refuse(largest.abs() < torch.inf, self.scores, "have no finite maximum")

    @property
    def states(self) -> int:
        return self.size

    def _check_enumerable(self) -> None:
        return

    @cached_property
    def log_probabilities(self) -> Tensor:
        """``[B, K]``, differentiable."""
        return self.scores.log_softmax(-1)

    @cached_property
    def probabilities(self) -> Tensor:
        """``[B, K]``, differentiable."""
        return self.log_probabilities.exp()

    @property
    def mean(self) -> Tensor:
        return self.probabilities

    def sample(self, draws: Draws, samples: int) -> Tensor:
        return draws.categorical(self.probabilities, samples)

    def score(self, states: Tensor) -> Tensor:
        return self.scores.gather(1, states)

    def log_probability(self, states: Tensor) -> Tensor:
        return self.log_probabilities.gather(1, states)

    def entropy(self) -> Tensor:
        return entropy(self.probabilities, self.log_probabilities)

    def weigh(self, states: Tensor) -> tuple[Tensor, Tensor]:
        return weigh(self.scores, states, self.log_probabilities, self.probabilities)

    def argmax(self) -> Tensor:
        return self.scores.argmax(-1, keepdim=True)

    def k_best(self, k: int) -> Tensor:
        return self.scores.detach().topk(min(k, self.size), -1).indices

    def all_states(self) -> Tensor:
        return torch.arange(self.size, device=self.scores.device).expand(self.batch_size, -1)

    def code(self, states: Tensor) -> Tensor:
        return states

    def vectors(self, states: Tensor) -> Tensor:
        return nn.functional.one_hot(states, self.size).to(self.scores.dtype)

    def select(self, states: Tensor, keep: Tensor | None = None) -> Latents:
        if keep is None or keep.all():
            return Latents.regular(states, self.size, self.scores.dtype)
        return Latents.ragged(keep.nonzero()[:, 0], states[keep], self.batch_size, self.size, self.scores.dtype)

    def enumerate(self) -> Latents:
        return Latents.regular(self.all_states(), self.size, self.scores.dtype, enumerates=True)


class BitVector(Space):
    r"""``D`` independent bits for each row of ``scores`` ``[B, D]``.

    .. math:: q(z) = \prod_d \sigma(s_d)^{z_d} (1 - \sigma(s_d))^{1 - z_d}

    A score of ``-inf`` keeps a bit off. State number ``c`` has the bits of c's binary numeral, the first bit the highest.
    """

    name: ClassVar[str] = "bit_vector"

    def _check(self) -> None:
        _refuse(self.scores.detach().amax(1) < torch.inf, self.scores, "must be finite or -inf")

    @property
    def states(self) -> int:
        return 1 << self.size

    def _check_enumerable(self) -> None:
        if self.states > MOST_STATES:
            raise ValueError(f"{self.size} bits have 2^{self.size} states; no more than {MOST_STATES:,} are enumerated")

    @cached_property
    def mean(self) -> Tensor:
        return torch.sigmoid(self.scores)

    def sample(self, draws: Draws, samples: int) -> Tensor:
        return draws.bernoulli(self.mean.detach().unsqueeze(1).expand(-1, samples, -1))

    def score(self, states: Tensor) -> Tensor:
        return torch.where(states > 0, self.scores.unsqueeze(1), 0).sum(-1)

    def log_probability(self, states: Tensor) -> Tensor:
        # Log sigma(s) or log sigma(-s): never the log of a probability that has reached 0 or 1.
        signs = 2 * states - 1
        return nn.functional.logsigmoid(self.scores.unsqueeze(1) * signs).sum(-1)

    def entropy(self) -> Tensor:
        # A bit and its opposite have the same entropy: log(1 + e^s) - s sigmoid(s) of the score that is not positive.
        scores = -self.scores.abs().clamp(max=NO_MASS)
        return (nn.functional.softplus(scores) - nn.functional.silu(scores)).sum(-1)

    def weigh(self, states: Tensor) -> tuple[Tensor, Tensor]:
        entropy = self.entropy()
        return self.log_probability(states), entropy

    def argmax(self) -> Tensor:
        return (self.scores.detach() > 0).to(self.scores.dtype).unsqueeze(1)

    def k_best(self, k: int) -> Tensor:
        """The k cheapest sets of bits to flip in the best state; flipping a bit costs the size of its score.

        A set that holds the j-th cheapest bit costs no less than j others (nothing, and each cheaper bit alone): only the k - 1
        cheapest bits ever flip. They join one after another, and the k cheapest sets are kept.
        """
        best = self.argmax()[:, 0]
        cost, bit = self.scores.detach().abs().topk(min(max(k - 1, 1), self.size), -1, largest=False)
        total = cost.new_zeros(self.batch_size, 1)
        flips = torch.zeros(self.batch_size, 1, cost.shape[1], dtype=torch.bool, device=cost.device)
        for j in range(cost.shape[1]):
            flipped = flips.clone()
            flipped[..., j] = True
            total = torch.cat([total, total + cost[:, j : j + 1]], 1)
            total, kept = total.topk(min(k, total.shape[1]), -1, largest=False)
            flips = torch.cat([flips, flipped], 1).gather(1, kept.unsqueeze(-1).expand(-1, -1, cost.shape[1]))
        everywhere = torch.zeros(*flips.shape[:2], self.size, dtype=torch.bool, device=cost.device)
        everywhere = everywhere.scatter(2, bit.unsqueeze(1).expand_as(flips), flips)
        return ((best > 0).unsqueeze(1) ^ everywhere).to(self.scores.dtype)

    def all_states(self) -> Tensor:
        self._check_enumerable()
        powers = 2 ** torch.arange(self.size - 1, -1, -1, device=self.scores.device)
        numbers = torch.arange(self.states, device=self.scores.device)
        bits = (numbers.unsqueeze(1) & powers > 0).to(self.scores.dtype)
        return bits.expand(self.batch_size, -1, -1)

    def code(self, states: Tensor) -> Tensor:
        powers = 2 ** torch.arange(self.size - 1, -1, -1, device=states.device)
        return (states.to(torch.int64) * powers).sum(-1)

    def vectors(self, states: Tensor) -> Tensor:
        return states

    def select(self, states: Tensor, keep: Tensor | None = None) -> Latents:
        if keep is None or keep.all():
            return Latents.regular_vectors(states.to(self.scores.dtype))
        return Latents.ragged_vectors(keep.nonzero()[:, 0], states[keep].to(self.scores.dtype), self.batch_size)

    def enumerate(self) -> Latents:
        return self.select(self.all_states())


SpaceName = Literal["categorical", "bit_vector"]

SPACES: dict[SpaceName, type[Space]] = {"categorical": Categorical, "bit_vector": BitVector}
