"""Independent bits."""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from estimators.draws import Draws
from estimators.pairs import Latents
from estimators.relaxations import LogisticScores
from estimators.softmax import NO_MASS
from estimators.spaces import products
from estimators.spaces.space import Distinct, Space, as_scores, refuse


@final
class BitVector(Space):
    r"""``D`` independent bits. States are bits ``[B, S, D]``.

    .. math:: q(z) = \prod_d \sigma(s_d)^{z_d} (1 - \sigma(s_d))^{1 - z_d}

    State number ``c`` has the bits of c's binary numeral, the first bit the highest.

    Args:
        scores: ``[B, D]``, the bits' log-odds; ``-inf`` keeps a bit off.

    Raises:
        FloatingPointError: if a score is NaN or +inf.
        ValueError: if the scores are not a floating-point matrix with at least one column.
    """

    name: ClassVar[str] = "bit_vector"

    def __init__(self, scores: Tensor) -> None:
        self.scores = as_scores(scores)
        self.batch_size, self.size = scores.shape
        self.dtype, self.device = self.scores.dtype, self.scores.device
        refuse(self.scores.detach().amax(1) < torch.inf, self.scores, "must be finite or -inf")

    @property
    def states(self) -> float:
        return 2.0**self.size

    @property
    def leaf(self) -> Tensor:
        return self.scores

    def rebuilt(self, leaf: Tensor) -> BitVector:
        return BitVector(leaf)

    @cached_property
    def mean(self) -> Tensor:
        """``[B, D]``: the probabilities of the bits, differentiable."""
        return torch.sigmoid(self.scores)

    @cached_property
    def _log_probabilities(self) -> Tensor:
        """``[B, D, 2]``: of each bit off and on."""
        return torch.stack([nn.functional.logsigmoid(-self.scores), nn.functional.logsigmoid(self.scores)], 2)

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

    def argmax(self) -> Tensor:
        return (self.scores.detach() > 0).to(self.dtype).unsqueeze(1)

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
        return ((best > 0).unsqueeze(1) ^ everywhere).to(self.dtype)

    def without_replacement(self, draws: Draws, samples: int) -> Distinct:
        samples = int(min(samples, self.states))
        states, keep, outside = products.without_replacement(self._log_probabilities, samples, draws)
        return Distinct(states.to(self.dtype), keep, outside.to(self.dtype))

    def sample_outside(self, draws: Draws, states: Tensor) -> tuple[Tensor, Tensor]:
        state, mass = products.sample_outside(self._log_probabilities, states.to(torch.int64), draws)
        return state.unsqueeze(1).to(self.dtype), mass.to(self.dtype)

    def all_states(self) -> Tensor:
        self.check_enumerable()
        powers = 2 ** torch.arange(self.size - 1, -1, -1, device=self.device)
        numbers = torch.arange(int(self.states), device=self.device)
        bits = (numbers.unsqueeze(1) & powers > 0).to(self.dtype)
        return bits.expand(self.batch_size, -1, -1)

    def code(self, states: Tensor) -> Tensor:
        powers = 2 ** torch.arange(self.size - 1, -1, -1, device=states.device)
        return (states.to(torch.int64) * powers).sum(-1)

    def noisy_scores(self) -> LogisticScores:
        return LogisticScores(self.scores)

    def bit_scores(self) -> Tensor:
        return self.scores

    def vectors(self, states: Tensor) -> Tensor:
        """``[B, S, D]``: the states."""
        return states

    def select(self, states: Tensor, keep: Tensor | None = None) -> Latents:
        if keep is None or keep.all():
            return Latents.regular_vectors(states.to(self.dtype))
        return Latents.ragged_vectors(keep.nonzero()[:, 0], states[keep].to(self.dtype), self.batch_size)
