"""The evidence lower bound as a function of a likelihood, a prior and a gradient estimator."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from estimators import Estimator, Latents, Space
from estimators.draws import Draws
from latent.models.gaussian import Gaussian

Terms = Callable[[Latents], tuple[Tensor, Tensor]]
"""Of N pairs: ``-log p(x | z)``, and the part of the divergence from the prior that depends on z; ``[N]`` each."""


class Prior(nn.Module):
    """``p(z)`` over the states of a discrete latent: uniform at the start, and for good unless it is learned.

    Args:
        make: from scores ``[B, V]`` to the latent variable.
        size: number of scores, V.
        learned: whether they are parameters.
    """

    scores: Tensor

    def __init__(self, make: Callable[[Tensor], Space], size: int, learned: bool = False) -> None:
        super().__init__()
        self.make = make
        if learned:
            self.scores = nn.Parameter(torch.zeros(size))
        else:
            self.register_buffer("scores", torch.zeros(size), persistent=False)

    def log_probability(self, latents: Latents) -> Tensor:
        """``log p(z)`` of N pairs, ``[N]``; of relaxed latents, its linear extension."""
        space = self.space(1)
        if latents.index is None:
            return space.noisy_scores().extended_log_probability(latents.value)
        return space.log_probability(latents.index.unsqueeze(0))[0]

    def sample(self, number: int, draws: Draws) -> Latents:
        """``number`` independent states."""
        space = self.make(self.scores.detach().expand(number, -1))
        pairs = space.select(space.sample(draws, 1))
        assert isinstance(pairs, Latents)
        return pairs

    def space(self, number: int) -> Space:
        """The latent variable of ``number`` examples, each with this distribution."""
        return self.make(self.scores.expand(number, -1))


class Divergence(Protocol):
    """``KL(q || p)``, as a term of each pair, which joins the loss, and a term of each example, which does not."""

    def of_pairs(self, latents: Latents, posterior: Space) -> Tensor:
        """``[N]``: the term whose expectation under q the estimator takes."""

    def of_examples(self, entropy: Tensor, posterior: Space) -> Tensor:
        """``[B]``: the rest, from q's entropy ``[B]``, which an estimator may know better than the posterior does."""


class ClosedForm(nn.Module):
    r"""``KL(q || p)`` of a discrete q: :math:`-E_q[\log p(z)] - H(q)`, the entropy in closed form.

    A uniform prior makes the first term a constant; a sparse q sums both over its support. Where latents are relaxed, this is
    the divergence of the discrete q from the prior (Jang, Gu and Poole 2017), and the objective is no bound on the evidence.
    """

    def __init__(self, prior: Prior) -> None:
        super().__init__()
        self.prior = prior

    def of_pairs(self, latents: Latents, posterior: Space) -> Tensor:
        return -self.prior.log_probability(latents)

    def of_examples(self, entropy: Tensor, posterior: Space) -> Tensor:
        return -entropy


class ClosedFormGaussian(nn.Module):
    """``KL(q || N(0, I))`` of a diagonal normal q."""

    def of_pairs(self, latents: Latents, posterior: Space) -> Tensor:
        return posterior.full(0, len(latents))

    def of_examples(self, entropy: Tensor, posterior: Space) -> Tensor:
        assert isinstance(posterior, Gaussian)
        return posterior.divergence()


class Relaxed(nn.Module):
    r"""The divergence of the relaxed densities, at the latents that are decoded: :math:`\log q_\tau(y) - \log p_{\tau'}(y)`.

    With it the objective is a bound on the evidence of the relaxed model (Maddison, Mnih and Teh 2017), whose prior is the
    relaxation of ``prior`` at a temperature of its own.
    """

    def __init__(self, prior: Prior, temperature: float) -> None:
        super().__init__()
        self.prior = prior
        self.temperature = temperature

    def of_pairs(self, latents: Latents, posterior: Space) -> Tensor:
        assert latents.relaxation is not None
        logits, temperature = latents.relaxation
        noisy = posterior.noisy_scores()
        density = noisy.of(latents.gather(noisy.scores).to(logits.dtype)).log_density(logits, temperature)
        return density - self.prior.space(1).noisy_scores().log_density(logits, self.temperature)

    def of_examples(self, entropy: Tensor, posterior: Space) -> Tensor:
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
    space: Space,
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
        space: the latent variable, with q.
        context: what a learned baseline may read, ``[B, ...]``.
        generator: source of the estimator's randomness.
        beta: weight of the rate in the objective (Higgins et al. 2017, https://openreview.net/forum?id=Sy2fzU9gl).
    """
    decoded: list[tuple[Latents, Tensor, Tensor]] = []

    def loss_function(latents: Latents) -> Tensor:
        distortion, rate = terms(latents)
        decoded.append((latents, distortion.detach(), rate.detach()))
        return distortion + beta * rate

    estimate = estimator(space, loss_function, context=context, generator=generator)
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
