"""A categorical latent variable: its distribution over K states, given by unnormalised scores."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from estimators.base import Latents
from estimators.draws import Draws


class Categorical:
    """``q(z = k) = softmax(scores)_k`` for each row of ``scores`` ``[B, K]``; a score of ``-inf`` masks a state."""

    def __init__(self, scores: Tensor) -> None:
        self.scores = scores
        self.batch_size, self.states = scores.shape

    @cached_property
    def log_probabilities(self) -> Tensor:
        """``[B, K]``, differentiable."""
        return self.scores.log_softmax(-1)

    @cached_property
    def probabilities(self) -> Tensor:
        """``[B, K]``, differentiable."""
        return self.log_probabilities.exp()

    def entropy(self) -> Tensor:
        """``[B]``: ``-sum_k q_k log q_k`` in nats. A state of zero probability adds nothing, to its gradient neither."""
        log_probabilities = self.log_probabilities.masked_fill(self.log_probabilities == -torch.inf, 0)
        return -(self.probabilities * log_probabilities).sum(-1)

    def sample(self, draws: Draws, samples: int) -> Tensor:
        """``[B, samples]`` int64: independent samples."""
        return draws.categorical(self.probabilities, samples)

    def log_probability(self, index: Tensor) -> Tensor:
        """``[B, S]``: log q of the states ``index`` ``[B, S]``, differentiable."""
        return self.log_probabilities.gather(1, index)

    def argmax(self) -> Tensor:
        """``[B]`` int64: the most likely state, the first one of several."""
        return self.scores.argmax(-1)

    def enumerate(self) -> Latents:
        """All ``B * K`` pairs: every state of every example."""
        index = torch.arange(self.states, device=self.scores.device).expand(self.batch_size, -1)
        return Latents.regular(index, self.states, self.scores.dtype, enumerates=True)

    def select(self, index: Tensor) -> Latents:
        """The pairs of ``index`` ``[B, S]``."""
        return Latents.regular(index, self.states, self.scores.dtype)
