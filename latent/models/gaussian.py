"""Gaussian latent variables: a diagonal normal posterior, and its gradient by reparameterisation."""

from __future__ import annotations

import math
from typing import ClassVar, final

from torch import Tensor

from estimators import Estimate, Estimator, Latents, OptionError, Proposal, Space, as_scores
from estimators.draws import Draws

LOG_TWO_PI = math.log(2 * math.pi)


class Gaussian(Space):
    r"""A diagonal normal distribution, :math:`q(z) = \prod_d N(z_d; \mu_d, \sigma_d^2)`, from scores ``[B, 2 D]``.

    The first half of the scores is :math:`\mu`, the second :math:`\log \sigma^2`. It has no states to enumerate: samples
    are tensors ``[B, S, D]``, as those of bits are.
    """

    name: ClassVar[str] = "gaussian"

    def __init__(self, scores: Tensor) -> None:
        self.scores = as_scores(scores)
        self.batch_size, self.dtype, self.device = len(scores), self.scores.dtype, self.scores.device
        self._mean, self.log_variance = self.scores.chunk(2, 1)
        if not self.scores.detach().isfinite().all():
            raise FloatingPointError("the mean or the variance of a Gaussian latent is not finite")

    @property
    def mean(self) -> Tensor:
        return self._mean

    @property
    def leaf(self) -> Tensor:
        return self.scores

    def rebuilt(self, leaf: Tensor) -> Gaussian:
        return Gaussian(leaf)

    def at(self, noise: Tensor) -> Tensor:
        """The samples that standard normal ``noise`` ``[B, S, D]`` makes, ``mu + sigma * noise``; differentiable."""
        return self.mean.unsqueeze(1) + (self.log_variance / 2).exp().unsqueeze(1) * noise

    def noise(self, draws: Draws, samples: int) -> Tensor:
        """``[B, S, D]``: standard normal noise."""
        return draws.normal(self.mean.detach().unsqueeze(1).expand(-1, samples, -1))

    def reparameterize(self, draws: Draws, samples: int) -> Tensor:
        """``[B, S, D]``: independent samples, differentiable."""
        return self.at(self.noise(draws, samples))

    def sample(self, draws: Draws, samples: int) -> Tensor:
        """``[B, S, D]``: independent samples, without gradient."""
        return self.reparameterize(draws, samples).detach()

    def argmax(self) -> Tensor:
        """``[B, 1, D]``: the mean."""
        return self.mean.detach().unsqueeze(1)

    def log_probability(self, samples: Tensor) -> Tensor:
        """``[B, S]``: the log-density of ``samples`` ``[B, S, D]``, differentiable."""
        variance = self.log_variance.exp().unsqueeze(1)
        squares = (samples - self.mean.unsqueeze(1)).square() / variance
        return -(squares + self.log_variance.unsqueeze(1) + LOG_TWO_PI).sum(2) / 2

    def entropy(self) -> Tensor:
        """``[B]``: the differential entropy in nats, differentiable."""
        return (self.log_variance + 1 + LOG_TWO_PI).sum(1) / 2

    def divergence(self) -> Tensor:
        r"""``[B]``: :math:`KL(q \| N(0, I)) = \tfrac12 \sum_d (\mu_d^2 + \sigma_d^2 - 1 - \log \sigma_d^2)`, differentiable.

        References:
            Kingma and Welling (2014), Auto-encoding variational Bayes, appendix B, https://arxiv.org/abs/1312.6114.
        """
        return (self.mean.square() + self.log_variance.exp() - 1 - self.log_variance).sum(1) / 2

    def select(self, states: Tensor, keep: Tensor | None = None) -> Latents:
        if keep is None:
            return Latents.regular_vectors(states)
        return Latents.ragged_vectors(keep.nonzero()[:, 0], states[keep], self.batch_size)


def standard_normal_log_density(value: Tensor) -> Tensor:
    """``log N(z; 0, I)`` of ``[..., D]``, ``[...]``."""
    return -(value.square() + LOG_TWO_PI).sum(-1) / 2


@final
class Reparameterization(Estimator):
    r"""Reparameterisation of a Gaussian latent: the gradient passes through the sample.

    .. math:: z = \mu + \sigma \odot \epsilon, \quad \epsilon \sim N(0, I), \qquad \nabla L \approx \nabla \ell(z)

    Decoder calls: ``samples``. Unbiased. For continuous latents; a discrete one has no such z.

    Args:
        samples: independent samples of each example.

    References:
        - Kingma and Welling (2014), Auto-encoding variational Bayes, https://arxiv.org/abs/1312.6114.
        - Rezende, Mohamed and Wierstra (2014), Stochastic backpropagation, https://arxiv.org/abs/1401.4082.
    """

    unbiased = True
    samples_states = True
    uses = frozenset({"reparameterize", "entropy"})

    def __init__(self, *, samples: int = 1) -> None:
        super().__init__()
        if samples < 1:
            raise OptionError("samples", f"must be at least 1, got {samples}")
        self.samples = samples

    def propose(self, space: Space, draws: Draws, context: Tensor | None = None) -> Proposal:
        states = space.reparameterize(draws, self.samples)
        weights = space.full(1 / self.samples, space.batch_size * self.samples)
        return Proposal(space.select(states), weights, space.entropy(), context=context)

    def combine(self, proposal: Proposal, losses: Tensor) -> Estimate:
        return Estimate.marginal(proposal, losses)
