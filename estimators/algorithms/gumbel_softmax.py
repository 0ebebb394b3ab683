"""Gumbel-softmax (Concrete, and binary Concrete of bits), relaxed or straight-through, with an annealed temperature."""

from __future__ import annotations

from typing import final

from torch import Tensor

from estimators.annealing import Temperature
from estimators.base import Estimate, Estimator, Proposal
from estimators.draws import Draws
from estimators.pairs import Latents, Relaxation
from estimators.spaces import Space


@final
class GumbelSoftmax(Estimator):
    r"""Gumbel-softmax: a reparameterised relaxed sample, decoded in place of a one-hot one.

    .. math:: y = \mathrm{softmax}\big((s + g) / \tau\big), \quad g_k \sim \mathrm{Gumbel}(0, 1), \qquad
        \nabla L \approx \nabla \ell(y)

    Of several categoricals each has its softmax. Of bits it is the binary Concrete relaxation, with the difference of two
    Gumbel variables:

    .. math:: y_d = \sigma\big((s_d + \lambda_d) / \tau\big), \quad \lambda_d \sim \mathrm{Logistic}(0, 1)

    Straight-through decodes the state that the *noisy* scores round to and passes its gradient on to y.
    The temperature after t calls in training is ``max(minimum, initial * exp(-rate * t'))`` with t' the last multiple of
    ``update_every``. Decoder calls: 1. Biased, less so at a lower temperature, where the variance is larger.

    Choose it where losses are differentiable in z, one call is all there is, and a low variance is worth a bias. Judge it by
    one-hot states: what it trains are relaxed ones.

    Args:
        temperature: initial temperature, above 0.
        minimum_temperature: the temperature never falls below this; above 0, and at most the initial one.
        decay_rate: rate r of the exponential decay per call; 0 keeps the temperature as it is.
        update_every: calls between two updates of the temperature.
        straight_through: decode one-hot samples, with the gradient of the relaxed ones.

    Raises:
        OptionError: if an option is out of its range.

    References:
        - Jang, Gu and Poole (2017), Categorical reparameterization with Gumbel-softmax, https://arxiv.org/abs/1611.01144.
        - Maddison, Mnih and Teh (2017), The Concrete distribution, https://arxiv.org/abs/1611.00712.
    """

    unbiased = False
    uses = frozenset({"noisy_scores", "entropy"})

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
        self.temperature = Temperature(temperature, minimum_temperature, decay_rate, update_every)
        self.straight_through = self.samples_states = straight_through
        self.relaxes = not straight_through

    def propose(self, space: Space, draws: Draws, context: Tensor | None = None) -> Proposal:
        scores = space.noisy_scores()
        noisy = scores.perturb(draws)
        temperature = self.temperature().to(noisy.dtype)
        logits = noisy / temperature
        value = scores.squash(logits)
        if self.straight_through:
            value = scores.round(noisy) + (value - value.detach())
        weights = value.new_ones(space.batch_size)
        relaxation = Relaxation(logits, temperature) if self.relaxes else None
        return Proposal(Latents.relaxed(value, relaxation), weights, space.entropy(), context=context)

    def combine(self, proposal: Proposal, losses: Tensor) -> Estimate:
        self.temperature.step()
        return Estimate.of(proposal, surrogate=losses, value=losses)
