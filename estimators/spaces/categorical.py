"""One categorical variable."""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from estimators.draws import Draws
from estimators.pairs import Latents
from estimators.relaxations import GumbelScores
from estimators.softmax import entropy, weigh
from estimators.spaces.space import Distinct, Space, as_scores, refuse


@final
class Categorical(Space):
    """One of ``K`` states, ``q(z = k) = softmax(scores)_k``. States are indices ``[B, S]`` int64.

    Args:
        scores: ``[B, K]``, unnormalised; ``-inf`` masks a state.

    Raises:
        FloatingPointError: if a row of scores defines no distribution (NaN, +inf, or every state masked).
        ValueError: if the scores are not a floating-point matrix with at least one column.
    """

    name: ClassVar[str] = "categorical"
    listed: ClassVar[bool] = True

    def __init__(self, scores: Tensor) -> None:
        self.scores = as_scores(scores)
        self.batch_size, self.size = scores.shape
        self.dtype, self.device = self.scores.dtype, self.scores.device
        refuse(self.scores.detach().amax(1).abs() < torch.inf, self.scores, "have no finite maximum")

    @property
    def states(self) -> float:
        return self.size

    @property
    def leaf(self) -> Tensor:
        return self.scores

    def rebuilt(self, leaf: Tensor) -> Categorical:
        return Categorical(leaf)

    @cached_property
    def log_probabilities(self) -> Tensor:
        """``[B, K]``, differentiable."""
        return self.scores.log_softmax(-1)

    @cached_property
    def probabilities(self) -> Tensor:
        """``[B, K]``, differentiable."""
        return self.log_probabilities.exp()

    def sample(self, draws: Draws, samples: int) -> Tensor:
        return draws.categorical(self.probabilities, samples)

    def score(self, states: Tensor) -> Tensor:
        return self.scores.gather(1, states)

    @property
    def all_scores(self) -> Tensor:
        return self.scores

    def log_probability(self, states: Tensor) -> Tensor:
        return self.log_probabilities.gather(1, states)

    def probability(self, states: Tensor) -> Tensor:
        return self.probabilities.gather(1, states)

    def entropy(self) -> Tensor:
        return entropy(self.probabilities, self.log_probabilities)

    def weigh(self, states: Tensor) -> tuple[Tensor, Tensor]:
        return weigh(self.scores, states, self.log_probabilities, self.probabilities)

    def argmax(self) -> Tensor:
        return self.scores.argmax(-1, keepdim=True)

    def k_best(self, k: int) -> Tensor:
        return self.scores.detach().topk(min(k, self.size), -1).indices

    def without_replacement(self, draws: Draws, samples: int) -> Distinct:
        q = self.probabilities.detach()
        states, _ = draws.without_replacement(self.probabilities, min(samples, self.size)).sort(1)
        return Distinct(states, q.gather(1, states) > 0, q.scatter(1, states, 0).sum(1))

    def sample_outside(self, draws: Draws, states: Tensor) -> tuple[Tensor, Tensor]:
        q = self.probabilities.detach()
        rest = q.scatter(1, states, 0)
        mass = rest.sum(1, keepdim=True)
        return draws.categorical(torch.where(mass > 0, rest / mass, q), 1), mass[:, 0]

    def all_states(self) -> Tensor:
        return torch.arange(self.size, device=self.device).expand(self.batch_size, -1)

    def code(self, states: Tensor) -> Tensor:
        return states

    def at(self, places: Tensor) -> Tensor:
        return places

    def noisy_scores(self) -> GumbelScores:
        return GumbelScores(self.scores, self.size, self.log_probabilities)

    @property
    def mean(self) -> Tensor:
        return self.probabilities

    def vectors(self, states: Tensor) -> Tensor:
        """``[B, S, K]``: the one-hot vectors of states."""
        return nn.functional.one_hot(states, self.size).to(self.dtype)

    def select(self, states: Tensor, keep: Tensor | None = None) -> Latents:
        if keep is None or keep.all():
            return Latents.regular(states, self.size, self.dtype)
        return Latents.ragged(keep.nonzero()[:, 0], states[keep], self.batch_size, self.size, self.dtype)

    def enumerate(self) -> Latents:
        return Latents.regular(self.all_states(), self.size, self.dtype, enumerates=True)
