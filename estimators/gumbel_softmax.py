"""Gumbel-softmax (Concrete) relaxation, relaxed or straight-through, with an annealed temperature."""

from __future__ import annotations

from typing import ClassVar, final

import torch
from torch import Tensor, nn

from estimators.base import Estimate, Estimator, Latents, OptionError, Proposal, as_scores
from estimators.categorical import Categorical
from estimators.draws import Draws


@final
class GumbelSoftmax(Estimator):
    r"""Gumbel-softmax: a reparameterised relaxed sample, decoded in place of a one-hot one.

    .. math:: y = \mathrm{softmax}\big((s + g) / \tau\big), \quad g_k \sim \mathrm{Gumbel}(0, 1), \qquad
        \nabla L \approx \nabla \ell(y)

    Straight-through decodes the one-hot vector at the largest entry of y and passes its gradient on to y.
    The temperature after t training steps is ``max(minimum, initial * exp(-rate * t'))`` with t' the last multiple of
    ``update_every``. One decoder call; biased, less so at a lower temperature, where the variance is larger.

    Args:
        temperature: initial temperature, above 0.
        minimum_temperature: the temperature never falls below this; above 0, and at most the initial one.
        decay_rate: rate r of the exponential decay per step; 0 keeps the temperature as it is.
        update_every: steps between two updates of the temperature.
        straight_through: decode one-hot samples, with the gradient of the relaxed ones.

    Raises:
        OptionError: if an option is out of its range.

    References:
        - Jang, Gu and Poole (2017), Categorical reparameterization with Gumbel-softmax, https://arxiv.org/abs/1611.01144.
        - Maddison, Mnih and Teh (2017), The Concrete distribution, https://arxiv.org/abs/1611.00712.
    """

    unbiased: ClassVar[bool] = False
    steps: Tensor

    def __init__(
        self,
        *,
        temperature: float = 1.0,
        minimum_temperature: float = 0.5,
        decay_rate: float = 1e-5,
        update_every: int = 1000,
        straight_through: bool = False,
    ) -> None:
        super().__init__()
        if not 0 < minimum_temperature <= temperature:
            raise OptionError("minimum_temperature", f"must lie in (0, temperature = {temperature}], got {minimum_temperature}")
        if decay_rate < 0:
            raise OptionError("decay_rate", f"must not be negative, got {decay_rate}")
        if update_every < 1:
            raise OptionError("update_every", f"must be at least 1, got {update_every}")
        self.initial_temperature = temperature
        self.minimum_temperature = minimum_temperature
        self.decay_rate = decay_rate
        self.update_every = update_every
        self.straight_through = straight_through
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @property
    def temperature(self) -> Tensor:
        """The temperature of the next sample, ``[]``, computed where the state lives so that nothing waits for it."""
        elapsed = (self.steps // self.update_every * self.update_every).double()
        return (self.initial_temperature * torch.exp(-self.decay_rate * elapsed)).clamp(min=self.minimum_temperature)

    def probabilities(self, scores: Tensor) -> Tensor:
        return Categorical(as_scores(scores)).probabilities

    def propose(self, scores: Tensor, draws: Draws, context: Tensor | None = None) -> Proposal:
        q = Categorical(as_scores(scores))
        value = ((q.scores + draws.gumbel(q.scores)) / self.temperature.to(q.scores.dtype)).softmax(-1)
        if self.straight_through:
            hard = nn.functional.one_hot(value.argmax(-1), q.states).to(value.dtype)
            value = hard + (value - value.detach())
        weights = value.new_ones(q.batch_size)
        return Proposal(Latents.relaxed(value), weights, q.entropy(), context=context)

    def combine(self, proposal: Proposal, losses: Tensor) -> Estimate:
        if self.training:
            self.steps += 1
        return Estimate.of(proposal, surrogate=losses, value=losses)
