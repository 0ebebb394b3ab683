"""Several independent categorical variables."""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from estimators.draws import Draws
from estimators.options import OptionError
from estimators.pairs import Latents
from estimators.relaxations import GumbelScores
from estimators.softmax import NO_MASS
from estimators.spaces import products
from estimators.spaces.space import Distinct, Space, as_scores, refuse


@final
class Categoricals(Space):
    r"""``N`` independent categorical variables of ``K`` states each. States are indices ``[B, S, N]`` int64.

    .. math:: q(z) = \prod_n \mathrm{softmax}(s_n)_{z_n}

    A loss function reads a state as N one-hot vectors, one after another: ``[N K]``. State number ``c`` has the digits of c in
    base K, the first variable the highest.

    Args:
        scores: ``[B, N K]``, those of one variable after those of another; ``-inf`` masks a state of a variable.
        categories: K.

    Raises:
        FloatingPointError: if the scores of a variable define no distribution (NaN, +inf, or every state masked).
        OptionError: if the scores are not those of variables with K states each.
        ValueError: if the scores are not a floating-point matrix with at least one column.
    """

    name: ClassVar[str] = "categoricals"

    def __init__(self, scores: Tensor, categories: int) -> None:
        self.scores = as_scores(scores)
        if categories < 1 or self.scores.shape[1] % categories:
            raise OptionError(
                "categories", f"{self.scores.shape[1]} scores are not those of variables with {categories} states"
            )
        self.batch_size, self.size = scores.shape
        self.categories = categories
        self.variables = self.size // categories
        self.dtype, self.device = self.scores.dtype, self.scores.device
        self.factors = self.scores.view(self.batch_size, self.variables, categories)
        largest = self.factors.detach().amax(2).abs().amax(1)
        refuse(largest < torch.inf, self.scores, "leave a variable without a finite maximum")

    @property
    def states(self) -> float:
        return float(self.categories) ** self.variables

    @property
    def leaf(self) -> Tensor:
        return self.scores

    def rebuilt(self, leaf: Tensor) -> Categoricals:
        return Categoricals(leaf, self.categories)

    @cached_property
    def log_probabilities(self) -> Tensor:
        """``[B, N, K]``, differentiable."""
        return self.factors.log_softmax(-1)

    def _sum(self, values: Tensor, states: Tensor) -> Tensor:
        """``[B, S]``: the sums over the variables of ``values`` ``[B, N, K]`` at their states."""
        everywhere = values.unsqueeze(1).expand(-1, states.shape[1], -1, -1)
        return everywhere.gather(3, states.unsqueeze(3))[..., 0].sum(2)

    def sample(self, draws: Draws, samples: int) -> Tensor:
        each = draws.categorical(self.log_probabilities.exp().flatten(0, 1), samples)
        return each.view(self.batch_size, self.variables, samples).transpose(1, 2)

    def score(self, states: Tensor) -> Tensor:
        return self._sum(self.factors, states)

    def log_probability(self, states: Tensor) -> Tensor:
        return self._sum(self.log_probabilities, states)

    def entropy(self) -> Tensor:
        return -(self.log_probabilities.exp() * self.log_probabilities.clamp(min=-NO_MASS)).sum((1, 2))

    def argmax(self) -> Tensor:
        return self.factors.argmax(2).unsqueeze(1)

    def k_best(self, k: int) -> Tensor:
        return products.k_best(self.factors.detach(), k)

    def without_replacement(self, draws: Draws, samples: int) -> Distinct:
        samples = int(min(samples, self.states))
        states, keep, outside = products.without_replacement(self.log_probabilities, samples, draws)
        return Distinct(states, keep, outside.to(self.dtype))

    def sample_outside(self, draws: Draws, states: Tensor) -> tuple[Tensor, Tensor]:
        state, mass = products.sample_outside(self.log_probabilities, states, draws)
        return state.unsqueeze(1), mass.to(self.dtype)

    @property
    def _places(self) -> Tensor:
        """``[N]``: what a step of each digit is worth."""
        return self.categories ** torch.arange(self.variables - 1, -1, -1, device=self.device)

    def all_states(self) -> Tensor:
        self.check_enumerable()
        numbers = torch.arange(int(self.states), device=self.device)
        return (numbers.unsqueeze(1) // self._places % self.categories).expand(self.batch_size, -1, -1)

    def code(self, states: Tensor) -> Tensor:
        return (states * self._places).sum(-1)

    def noisy_scores(self) -> GumbelScores:
        return GumbelScores(self.scores, self.categories, self.log_probabilities.flatten(1))

    @property
    def mean(self) -> Tensor:
        return self.log_probabilities.exp().flatten(1)

    def vectors(self, states: Tensor) -> Tensor:
        """``[B, S, N K]``: the one-hot vectors of states."""
        return nn.functional.one_hot(states, self.categories).to(self.dtype).flatten(2)

    def select(self, states: Tensor, keep: Tensor | None = None) -> Latents:
        vectors = self.vectors(states)
        if keep is None or keep.all():
            return Latents.regular_vectors(vectors)
        return Latents.ragged_vectors(keep.nonzero()[:, 0], vectors[keep], self.batch_size)
