"""Scores with noise: its largest, or positive, entries are a sample of q, and a softmax or sigmoid relaxes that sample."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import final

import torch
from torch import Tensor, nn

from estimators.draws import Draws

MASKED = -1e30
"""Log-probability of a masked state: with minus infinity, the gradient of a temperature would not be a number."""


class NoisyScores(ABC):
    """Scores ``[B, V]`` of variables whose states are vectors ``[V]``, with the noise that samples them.

    Adding a constant that q does not depend on changes no result but :meth:`perturb`'s.
    """

    scores: Tensor

    @property
    def finite(self) -> Tensor:
        """``[B, V]``: the scores, zero where they are masked; differentiable."""
        return self.scores.masked_fill(self.scores == -torch.inf, 0)

    @abstractmethod
    def of(self, scores: Tensor) -> NoisyScores:
        """The same variables with other scores, ``[..., V]``."""

    @property
    @abstractmethod
    def mean(self) -> Tensor:
        """``[B, V]``: E_q[z], differentiable."""

    @abstractmethod
    def normalised(self) -> NoisyScores:
        """The same q from scores that are log-probabilities or log-odds, and finite."""

    @abstractmethod
    def perturb(self, draws: Draws) -> Tensor:
        """``[B, V]``: scores plus noise, differentiable; :meth:`round` makes a sample of q of it."""

    @abstractmethod
    def perturb_given(self, draws: Draws, state: Tensor, samples: int) -> Tensor:
        """``[B, samples, V]``: log-probabilities or log-odds plus noise, given that they round to ``state`` ``[B, V]``.

        Differentiable in the scores.
        """

    @abstractmethod
    def round(self, noisy: Tensor) -> Tensor:
        """The state, ``[..., V]``, of noisy scores or of relaxed vectors' logits."""

    @abstractmethod
    def squash(self, logits: Tensor) -> Tensor:
        """Relaxed vectors ``[..., V]`` of noisy scores over a temperature."""

    @abstractmethod
    def centred(self, noisy: Tensor) -> Tensor:
        """``[..., V]``: noisy scores shifted so that none is large where :meth:`squash` does not depend on the shift."""

    @abstractmethod
    def features(self, noisy: Tensor) -> Tensor:
        """``[..., V]``: noisy scores without what q does not depend on, for a network to read; zero where masked."""

    @abstractmethod
    def linearised(self, mean: Tensor) -> Tensor:
        """``[B, V]``: a function of the scores whose Jacobian is that of :attr:`mean`, where that is ``mean`` ``[B, V]``."""

    @abstractmethod
    def extended_log_probability(self, vectors: Tensor) -> Tensor:
        """``[...]``: log q of states ``[..., V]``, and its linear extension to relaxed vectors."""

    @abstractmethod
    def log_density(self, logits: Tensor, temperature: Tensor | float) -> Tensor:
        """``[...]``: log-density of the logarithm, or the logits, of relaxed vectors ``squash(logits)``."""


@final
class GumbelScores(NoisyScores):
    r"""Independent categoricals of K states each, perturbed with Gumbel noise: :math:`\arg\max_k (s_k + g_k) \sim q`.

    Args:
        scores: ``[B, N K]``, those of one variable after those of another.
        categories: K.
        log_probabilities: ``[B, N K]``, their log-softmax, where it is known already.

    References:
        - Maddison, Tarlow and Minka (2014), A* sampling, https://arxiv.org/abs/1411.0030.
        - Jang, Gu and Poole (2017), Categorical reparameterization with Gumbel-softmax, https://arxiv.org/abs/1611.01144.
    """

    def __init__(self, scores: Tensor, categories: int, log_probabilities: Tensor | None = None) -> None:
        self.scores = scores
        self.categories = categories
        self._log_probabilities = log_probabilities

    @property
    def log_probabilities(self) -> Tensor:
        """``[B, N K]``, differentiable."""
        if self._log_probabilities is None:
            self._log_probabilities = self.split(self.scores).log_softmax(-1).flatten(-2)
        return self._log_probabilities

    def split(self, x: Tensor) -> Tensor:
        """``[..., N K]`` to ``[..., N, K]``."""
        return x.view(*x.shape[:-1], -1, self.categories)

    def of(self, scores: Tensor) -> GumbelScores:
        return GumbelScores(scores, self.categories)

    @property
    def mean(self) -> Tensor:
        return self.log_probabilities.exp()

    def normalised(self) -> GumbelScores:
        finite = self.log_probabilities.clamp(min=MASKED)
        return GumbelScores(finite, self.categories, finite)

    def perturb(self, draws: Draws) -> Tensor:
        return self.scores + draws.gumbel(self.scores)

    def perturb_given(self, draws: Draws, state: Tensor, samples: int) -> Tensor:
        log_probabilities = self.normalised().scores.unsqueeze(1)
        noise = draws.gumbel(log_probabilities.expand(-1, samples, -1))
        place = self.split(state).argmax(-1).unsqueeze(1)
        return conditional_gumbel(self.split(log_probabilities), place, self.split(noise)).flatten(-2)

    def round(self, noisy: Tensor) -> Tensor:
        return nn.functional.one_hot(self.split(noisy).argmax(-1), self.categories).to(noisy.dtype).flatten(-2)

    def squash(self, logits: Tensor) -> Tensor:
        return self.split(logits).softmax(-1).flatten(-2)

    def centred(self, noisy: Tensor) -> Tensor:
        split = self.split(noisy)
        return (split - split.detach().amax(-1, keepdim=True)).flatten(-2)

    def features(self, noisy: Tensor) -> Tensor:
        return self.split(noisy).log_softmax(-1).flatten(-2).masked_fill(noisy < MASKED / 2, 0)

    def linearised(self, mean: Tensor) -> Tensor:
        p = self.split(mean)
        weighted = p * self.split(self.finite)
        return (weighted - p * weighted.sum(-1, keepdim=True)).flatten(-2)

    def extended_log_probability(self, vectors: Tensor) -> Tensor:
        # No matrix product: under autocast that would be in half precision.
        return (vectors * self.normalised().scores).sum(-1)

    def log_density(self, logits: Tensor, temperature: Tensor | float) -> Tensor:
        return concrete_log_density(self.split(self.scores), self.split(logits), temperature).sum(-1)


@final
class LogisticScores(NoisyScores):
    r"""Independent bits perturbed with logistic noise: :math:`[\, s_d + \lambda_d > 0 \,] \sim q`.

    Args:
        scores: ``[B, D]``, the bits' log-odds; ``-inf`` keeps a bit off.

    References:
        - Maddison, Mnih and Teh (2017), The Concrete distribution, https://arxiv.org/abs/1611.00712.
    """

    def __init__(self, scores: Tensor) -> None:
        self.scores = scores

    def of(self, scores: Tensor) -> LogisticScores:
        return LogisticScores(scores)

    @property
    def mean(self) -> Tensor:
        return self.scores.sigmoid()

    def normalised(self) -> LogisticScores:
        return LogisticScores(self.scores.clamp(min=MASKED))

    def perturb(self, draws: Draws) -> Tensor:
        return self.scores + draws.logistic(self.scores)

    def perturb_given(self, draws: Draws, state: Tensor, samples: int) -> Tensor:
        # The difference of two Gumbel variables of which one is known to be the larger.
        scores = self.normalised().scores.unsqueeze(1)
        noise = draws.logistic(scores.expand(-1, samples, -1))
        sign = 2 * state.unsqueeze(1) - 1
        return sign * nn.functional.softplus(-noise - nn.functional.logsigmoid(-sign * scores))

    def round(self, noisy: Tensor) -> Tensor:
        return (noisy > 0).to(noisy.dtype)

    def squash(self, logits: Tensor) -> Tensor:
        return logits.sigmoid()

    def centred(self, noisy: Tensor) -> Tensor:
        return noisy

    def features(self, noisy: Tensor) -> Tensor:
        return noisy.masked_fill(noisy < MASKED / 2, 0)

    def linearised(self, mean: Tensor) -> Tensor:
        return mean * (1 - mean) * self.finite

    def extended_log_probability(self, vectors: Tensor) -> Tensor:
        return (vectors * self.normalised().scores).sum(-1) - nn.functional.softplus(self.scores).sum(-1)

    def log_density(self, logits: Tensor, temperature: Tensor | float) -> Tensor:
        return binary_concrete_log_density(self.scores, logits, temperature)


def conditional_gumbel(log_probabilities: Tensor, state: Tensor, noise: Tensor) -> Tensor:
    r"""Perturbed log-probabilities :math:`z = \log q + g` given that ``state`` k has the largest, differentiable in them.

    .. math:: z_k = g'_k, \qquad
        z_i = -\log\Big(\frac{e^{-g'_i}}{q_i} + e^{-z_k}\Big) = z_k + \log \sigma(g'_i + \log q_i - z_k), \quad i \neq k

    Args:
        log_probabilities: ``[..., K]``, normalised; ``-inf`` where a state is masked. Broadcast to the shape of the noise.
        state: ``[...]`` int64, of some probability.
        noise: ``[..., K]``, independent standard Gumbel noise.

    Returns:
        The shape of the noise; ``-inf`` where a state is masked.

    References:
        Maddison, Tarlow and Minka (2014), A* sampling, https://arxiv.org/abs/1411.0030.
        Paulus, Maddison and Krause (2021), https://arxiv.org/abs/2010.04838.
    """
    place = state.unsqueeze(-1).expand(*noise.shape[:-1], 1)
    top = noise.gather(-1, place)
    below = top + nn.functional.logsigmoid(noise + log_probabilities - top)
    return below.scatter(-1, place, top)


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
