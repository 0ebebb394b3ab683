"""Gumbel-Rao: straight-through Gumbel-softmax, averaged over the noise that gives the same sample."""

from __future__ import annotations

from typing import final

from torch import Tensor

from estimators.annealing import Temperature
from estimators.base import Estimate, Estimator, Proposal
from estimators.draws import Draws
from estimators.options import OptionError
from estimators.pairs import Latents
from estimators.spaces import Space


@final
class GumbelRao(Estimator):
    r"""Gumbel-Rao: straight-through Gumbel-softmax with its gradient averaged over conditional noise, given the sample.

    .. math:: \nabla L \approx \nabla \ell(z) + \nabla_z \ell(z) \cdot
        \frac{1}{M} \sum_{m=1}^{M} \nabla_s \, \mathrm{softmax}\big((s + g^{(m)}) / \tau\big)

    .. math:: z \sim q, \qquad g^{(m)} \sim \mathrm{Gumbel} \mid \arg\max(s + g^{(m)}) = z

    The noise is not differentiated. The temperature after t calls in training is
    ``max(minimum, initial * exp(-rate * t'))`` with t' the last multiple of ``update_every``. Decoder calls: 1, however many
    draws of noise. Biased exactly as straight-through Gumbel-softmax, with less variance: lower temperatures become affordable.

    Choose it in place of straight-through Gumbel-softmax wherever the decoder costs more than M softmaxes.

    Args:
        noise_samples: draws of noise given the sample, M.
        temperature: initial temperature, above 0.
        minimum_temperature: the temperature never falls below this; above 0, and at most the initial one.
        decay_rate: rate r of the exponential decay per call; 0 keeps the temperature as it is.
        update_every: calls between two updates of the temperature.

    Raises:
        OptionError: if an option is out of its range.

    References:
        - Paulus, Maddison and Krause (2021), Rao-Blackwellizing the straight-through Gumbel-softmax gradient estimator,
          https://arxiv.org/abs/2010.04838.
    """

    unbiased = False
    samples_states = True
    uses = frozenset({"sample", "entropy", "noisy_scores"})

    def __init__(
        self,
        *,
        noise_samples: int = 10,
        temperature: float = 1.0,
        minimum_temperature: float = 0.5,
        decay_rate: float = 1e-5,
        update_every: int = 1000,
    ) -> None:
        super().__init__()
        if noise_samples < 1:
            raise OptionError("noise_samples", f"must be at least 1, got {noise_samples}")
        self.noise_samples = noise_samples
        self.temperature = Temperature(temperature, minimum_temperature, decay_rate, update_every)

    def propose(self, space: Space, draws: Draws, context: Tensor | None = None) -> Proposal:
        scores = space.noisy_scores()
        sample = space.vectors(space.sample(draws, 1))[:, 0]
        finite = scores.finite.unsqueeze(1)
        shift = scores.perturb_given(draws, sample, self.noise_samples).detach() - finite.detach()
        soft = scores.squash((finite + shift) / self.temperature().to(finite.dtype)).mean(1)
        value = sample + (soft - soft.detach())
        return Proposal(Latents.relaxed(value), value.new_ones(space.batch_size), space.entropy(), context=context)

    def combine(self, proposal: Proposal, losses: Tensor) -> Estimate:
        self.temperature.step()
        return Estimate.of(proposal, surrogate=losses, value=losses)
