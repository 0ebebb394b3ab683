"""The evidence lower bound as a function of a likelihood, a prior and a gradient estimator."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from estimators import Categorical, Estimator, Latents, Space
from latent.models.gaussian import Gaussian

Terms = Callable[[Latents], tuple[Tensor, Tensor]]
"""Of N pairs: ``-log p(x | z)``, and the part of the divergence from the prior that depends on z; ``[N]`` each."""


class Prior(nn.Module):
    """``p(z)`` over the states of a discrete latent: uniform at the start, and for good unless it is learned.

    Args:
        space: ``Categorical`` or ``BitVector``; bits are independent.
        size: length of the latent, K or D.
        learned: whether its scores are parameters.
    """

    scores: Tensor

    def __init__(self, space: type[Space], size: int, learned: bool = False) -> None:
        super().__init__()
        self.space = space
        if learned:
            self.scores = nn.Parameter(torch.zeros(size))
        else:
            self.register_buffer("scores", torch.zeros(size), persistent=False)

    def log_probability(self, latents: Latents) -> Tensor:
        """``log p(z)`` of N pairs, ``[N]``; of relaxed latents, its linear extension."""
        if self.space is not Categorical:
            return (latents.value * self.scores).sum(1) - nn.functional.softplus(self.scores).sum()
        log_probabilities = self.scores.log_softmax(0)
        if latents.index is None:  # no matrix product: under autocast that would be in half precision
            return (latents.value * log_probabilities).sum(1)
        return log_probabilities[latents.index]


class Divergence(Protocol):
    """``KL(q || p)``, as a term of each pair, which joins the loss, and a term of each example, which does not."""

    def of_pairs(self, latents: Latents, scores: Tensor) -> Tensor:
        """``[N]``: the term whose expectation under q the estimator takes."""

    def of_examples(self, entropy: Tensor, scores: Tensor) -> Tensor:
        """``[B]``: the rest, from q's entropy ``[B]`` and scores."""


class ClosedForm(nn.Module):
    r"""``KL(q || p)`` of a discrete q: :math:`-E_q[\log p(z)] - H(q)`, the entropy in closed form.

    A uniform prior makes the first term a constant; a sparse q sums both over its support. Where latents are relaxed, this is
    the divergence of the discrete q from the prior (Jang, Gu and Poole 2017), and the objective is no bound on the evidence.
    """

    def __init__(self, prior: Prior) -> None:
        super().__init__()
        self.prior = prior

    def of_pairs(self, latents: Latents, scores: Tensor) -> Tensor:
        return -self.prior.log_probability(latents)

    def of_examples(self, entropy: Tensor, scores: Tensor) -> Tensor:
        return -entropy


class ClosedFormGaussian(nn.Module):
    """``KL(q || N(0, I))`` of a diagonal normal q."""

    def of_pairs(self, latents: Latents, scores: Tensor) -> Tensor:
        return scores.new_zeros(len(latents))

    def of_examples(self, entropy: Tensor, scores: Tensor) -> Tensor:
        return Gaussian(scores).divergence()


def concrete_log_density(scores: Tensor, logits: Tensor, temperature: Tensor | float) -> Tensor:
    r"""Log-density of the logarithm of a Concrete variable, :math:`u = \log y` with ``y = softmax(logits)``.

    .. math:: \log \Gamma(K) + (K - 1) \log \tau + \sum_k (s_k - \tau u_k) - K \log \sum_k \exp(s_k - \tau u_k)

    Args:
        scores: ``[..., K]``, those of the categorical distribution that is relaxed.
        logits: ``[..., K]``.
        temperature: tau.

    Returns:
        ``[...]``. The logarithm of y keeps precise what y itself would round to 0 or 1.

    References:
        Maddison, Mnih and Teh (2017), The Concrete distribution, appendix C, https://arxiv.org/abs/1611.00712.
    """
    size = logits.shape[-1]
    energies = scores - temperature * logits.log_softmax(-1)
    log_temperature = torch.as_tensor(temperature, dtype=logits.dtype, device=logits.device).log()
    return math.lgamma(size) + (size - 1) * log_temperature + energies.sum(-1) - size * energies.logsumexp(-1)


def binary_concrete_log_density(scores: Tensor, logits: Tensor, temperature: Tensor | float) -> Tensor:
    r"""Log-density of the logits u of binary Concrete variables, ``y = sigmoid(u)``.

    .. math:: \sum_d \big[\log \tau + (s_d - \tau u_d) - 2 \log(1 + \exp(s_d - \tau u_d))\big]

    Shapes and source as of :func:`concrete_log_density`.
    """
    energies = scores - temperature * logits
    log_temperature = torch.as_tensor(temperature, dtype=logits.dtype, device=logits.device).log()
    return (log_temperature + energies - 2 * nn.functional.softplus(energies)).sum(-1)


class Relaxed(nn.Module):
    r"""The divergence of the relaxed densities, at the latents that are decoded: :math:`\log q_\tau(y) - \log p_{\tau'}(y)`.

    With it the objective is a bound on the evidence of the relaxed model (Maddison, Mnih and Teh 2017), whose prior is the
    relaxation of ``prior`` at a temperature of its own.
    """

    def __init__(self, prior: Prior, temperature: float) -> None:
        super().__init__()
        self.prior = prior
        self.temperature = temperature
        self.log_density = concrete_log_density if prior.space is Categorical else binary_concrete_log_density

    def of_pairs(self, latents: Latents, scores: Tensor) -> Tensor:
        assert latents.relaxation is not None
        logits, temperature = latents.relaxation
        posterior = self.log_density(latents.gather(scores).to(logits.dtype), logits, temperature)
        return posterior - self.log_density(self.prior.scores, logits, self.temperature)

    def of_examples(self, entropy: Tensor, scores: Tensor) -> Tensor:
        return torch.zeros_like(entropy)


class Elbo(NamedTuple):
    """``objective`` ``[B]``: minimise this, with the estimator's ``auxiliary`` ``[]``. ``metrics``: ``[B]`` each, detached."""

    objective: Tensor
    auxiliary: Tensor
    metrics: dict[str, Tensor]


def elbo(
    terms: Terms,
    rest_of_rate: Callable[[Tensor], Tensor],
    estimator: Estimator,
    scores: Tensor,
    *,
    context: Tensor | None = None,
    generator: torch.Generator | None = None,
    beta: float = 1.0,
) -> Elbo:
    r"""Estimate the negative evidence lower bound and its gradient.

    .. math:: -\mathrm{ELBO} = \underbrace{-E_q[\log p(x \mid z)]}_{\text{distortion}}
        + \underbrace{KL(q(z \mid x) \,\|\, p(z))}_{\text{rate}}

    Args:
        terms: the distortion and the rate of N pairs.
        rest_of_rate: what the divergence adds for each example, ``[B]``, from q's entropy ``[B]``.
        estimator: of the gradient.
        scores: ``[B, V]``, those of q.
        context: what a learned baseline may read, ``[B, ...]``.
        generator: source of the estimator's randomness.
        beta: weight of the rate in the objective (Higgins et al. 2017, https://openreview.net/forum?id=Sy2fzU9gl).
    """
    decoded: list[tuple[Latents, Tensor, Tensor]] = []

    def loss_function(latents: Latents) -> Tensor:
        distortion, rate = terms(latents)
        decoded.append((latents, distortion.detach(), rate.detach()))
        return distortion + beta * rate

    estimate = estimator(scores, loss_function, context=context, generator=generator)
    rest = rest_of_rate(estimate.entropy)
    objective = estimate.surrogate if estimator.holds_entropy else estimate.surrogate + beta * rest
    latents, distortions, rates = decoded[-1]  # what the estimate is of; a probe decodes others before
    distortion = latents.sum(estimate.weights * distortions)
    rate = latents.sum(estimate.weights * rates) + rest.detach()
    metrics = {
        "loss": estimate.value if estimator.holds_entropy else estimate.value + beta * rest.detach(),
        "elbo": -(distortion + rate),
        "distortion": distortion,
        "rate": rate,
        "decoder_calls": estimate.decoder_calls,
        "entropy": estimate.entropy.detach(),
        **estimate.metrics,
    }
    return Elbo(objective, estimate.auxiliary, metrics)
