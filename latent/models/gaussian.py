"""Gaussian latent variables: a diagonal normal posterior, and its gradient by reparameterisation."""

from __future__ import annotations

import math
from typing import ClassVar, final

from torch import Tensor

from estimators import Estimate, Estimator, Latents, OptionError, Proposal, as_scores
from estimators.draws import Draws

LOG_TWO_PI = math.log(2 * math.pi)


class Gaussian:
    r"""A diagonal normal distribution, :math:`q(z) = \prod_d N(z_d; \mu_d, \sigma_d^2)`, from scores ``[B, 2 D]``.

    The first half of the scores is :math:`\mu`, the second :math:`\log \sigma^2`. It has no states to enumerate: samples
    are tensors ``[B, S, D]``, as those of bits are.
    """

    name: ClassVar[str] = "gaussian"
    states: ClassVar[float] = math.inf

    def __init__(self, scores: Tensor) -> None:
        self.scores = as_scores(scores)
        self.mean, self.log_variance = self.scores.chunk(2, 1)
        if not self.scores.detach().isfinite().all():
            raise FloatingPointError("the mean or the variance of a Gaussian latent is not finite")

    def at(self, noise: Tensor) -> Tensor:
        """The samples that standard normal ``noise`` ``[B, S, D]`` makes, ``mu + sigma * noise``; differentiable."""
        return self.mean.unsqueeze(1) + (self.log_variance / 2).exp().unsqueeze(1) * noise

    def noise(self, draws: Draws, samples: int) -> Tensor:
        """``[B, S, D]``: standard normal noise."""
        return draws.normal(self.mean.detach().unsqueeze(1).expand(-1, samples, -1))

    def sample(self, draws: Draws, samples: int) -> Tensor:
        """``[B, S, D]``: independent samples, without gradient."""
        return self.at(self.noise(draws, samples)).detach()

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

    def select(self, samples: Tensor) -> Latents:
        """The pairs of ``samples`` ``[B, S, D]``."""
        return Latents.regular_vectors(samples)


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
    space = Gaussian  # type: ignore[assignment]  # the one latent that is no discrete space

    def __init__(self, *, samples: int = 1) -> None:
        super().__init__()
        if samples < 1:
            raise OptionError("samples", f"must be at least 1, got {samples}")
        self.samples = samples

    def probabilities(self, scores: Tensor) -> Tensor:
        raise ValueError("a Gaussian latent has no finite number of states")

    def propose(self, scores: Tensor, draws: Draws, context: Tensor | None = None) -> Proposal:
        q = Gaussian(scores)
        value = q.at(q.noise(draws, self.samples))
        weights = value.new_full((len(scores) * self.samples,), 1 / self.samples)
        return Proposal(Latents.regular_vectors(value), weights, q.entropy(), context=context)

    def combine(self, proposal: Proposal, losses: Tensor) -> Estimate:
        return Estimate.marginal(proposal, losses)
