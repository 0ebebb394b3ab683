"""Binary Concrete relaxation of bit vectors, relaxed or straight-through, with an annealed temperature."""

from __future__ import annotations

from typing import final

from torch import Tensor

from estimators.annealing import Temperature
from estimators.base import Estimate, Estimator, Proposal
from estimators.draws import Draws
from estimators.pairs import Latents, Relaxation
from estimators.spaces import BitVector, Space


@final
class BinaryConcrete(Estimator):
    r"""Binary Concrete: reparameterised relaxed bits, decoded in place of bits.

    .. math:: y_d = \sigma\big((s_d + \lambda_d) / \tau\big), \quad \lambda_d \sim \mathrm{Logistic}(0, 1), \qquad
        \nabla L \approx \nabla \ell(y)

    Straight-through decodes the bits of the *noisy* sample, ``s + noise > 0``, and passes their gradient on to y. The
    temperature after t calls in training is ``max(minimum, initial * exp(-rate * t'))`` with t' the last multiple of
    ``update_every``. Decoder calls: 1. Biased, less so at a lower temperature, where the variance is larger.

    Choose it for bit vectors where losses are differentiable in z and one call is all there is.

    Args:
        temperature: initial temperature, above 0.
        minimum_temperature: the temperature never falls below this; above 0, and at most the initial one.
        decay_rate: rate r of the exponential decay per call; 0 keeps the temperature as it is.
        update_every: calls between two updates of the temperature.
        straight_through: decode bits, with the gradient of the relaxed ones.

    Raises:
        OptionError: if an option is out of its range.

    References:
        - Maddison, Mnih and Teh (2017), The Concrete distribution, https://arxiv.org/abs/1611.00712.
        - Jang, Gu and Poole (2017), Categorical reparameterization with Gumbel-softmax, https://arxiv.org/abs/1611.01144.
    """

    unbiased = False
    space: type[Space] = BitVector

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

    def probabilities(self, scores: Tensor) -> Tensor:
        return BitVector(scores).probabilities

    def propose(self, scores: Tensor, draws: Draws, context: Tensor | None = None) -> Proposal:
        q = BitVector(scores)
        noisy = q.scores + draws.logistic(q.scores)
        temperature = self.temperature().to(noisy.dtype)
        logits = noisy / temperature
        value = logits.sigmoid()
        if self.straight_through:
            value = (noisy > 0).to(value.dtype) + (value - value.detach())
        relaxation = Relaxation(logits, temperature) if self.relaxes else None
        return Proposal(Latents.relaxed(value, relaxation), value.new_ones(q.batch_size), q.entropy(), context=context)

    def combine(self, proposal: Proposal, losses: Tensor) -> Estimate:
        self.temperature.step()
        return Estimate.of(proposal, surrogate=losses, value=losses)
