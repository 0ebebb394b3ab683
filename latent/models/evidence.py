"""What a trained q and decoder are worth: expectations under q, and the evidence log p(x) by enumeration or sampling."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from estimators import BitVector, Categorical, Estimator, Latents
from estimators.draws import Draws
from estimators.mappings import shannon_entropy

PAIRS_AT_ONCE = 4096
"""Pairs that an estimate of the evidence decodes at a time, so that its memory does not grow with the number of samples."""

SAMPLES_OF_EXPECTATION = 8
"""Samples of each image that an expectation under q is estimated with, where it cannot be enumerated."""


class Expectation(NamedTuple):
    """Pairs and weights whose sum is an expectation under q: exact, unless its states are too many.

    Attributes:
        latents: N pairs.
        weights: ``[N]``.
        entropy: ``[B]``, of q.
        most_likely: one pair for each example: the most likely state.
        decoder_calls: ``[B]``, pairs that the estimator decodes in training.
    """

    latents: Latents
    weights: Tensor
    entropy: Tensor
    most_likely: Latents
    decoder_calls: Tensor


def expectation(estimator: Estimator, scores: Tensor, draws: Draws) -> Expectation:
    """Take expectations under the q of an estimator, the same way for every one that allows it.

    Over the support where the estimator itself does, over all states of a categorical latent; over samples of a bit vector or
    a Gaussian.
    """
    space: Any = estimator.space(scores)
    sampled = not (estimator.marginalizes or isinstance(space, Categorical))
    # Drawn before the estimator draws what it decodes: the same for every estimator.
    states = space.sample(draws, SAMPLES_OF_EXPECTATION) if sampled else None
    proposal = estimator.propose(scores, draws)
    calls = proposal.latents.counts
    most_likely = space.select(space.argmax())
    if estimator.marginalizes:
        latents, weights = proposal.latents, proposal.weights
        if not isinstance(space, Categorical):  # the scores' own best state need not be that of a sparse q
            heaviest = latents.pad(weights).argmax(1)
            states = latents.pad(latents.value)
            most_likely = Latents.regular_vectors(
                states[torch.arange(len(states), device=states.device), heaviest].unsqueeze(1)
            )
        return Expectation(latents, weights, proposal.entropy, most_likely, calls)
    if isinstance(space, Categorical):
        q = estimator.probabilities(scores)
        return Expectation(space.enumerate(), q.flatten(), shannon_entropy(q), most_likely, calls)
    latents = space.select(states)
    weights = scores.new_full((len(latents),), 1 / SAMPLES_OF_EXPECTATION)
    return Expectation(latents, weights, space.entropy(), most_likely, calls)


class Evidence(NamedTuple):
    """``value`` ``[B]``: an estimate of log p(x); ``variance`` ``[B]``: that of the sampling noise in it, zero where exact."""

    value: Tensor
    variance: Tensor

    @classmethod
    def mean(cls, log_weights: Tensor, used: Tensor | None = None) -> Evidence:
        """The log of the mean of weights ``[B, S]``, of those where ``used``; its variance by the delta method."""
        used = torch.ones_like(log_weights, dtype=torch.bool) if used is None else used
        number = used.sum(1).to(log_weights.dtype)
        log_weights = torch.where(used, log_weights, -torch.inf)
        value = log_weights.logsumexp(1) - number.log()
        relative = torch.where(used, (log_weights - value.unsqueeze(1)).exp() - 1, 0)
        return cls(value, relative.square().sum(1) / (number * (number - 1).clamp(min=1)))


def evidence(
    estimator: Estimator, scores: Tensor, log_joint: Callable[[Latents], Tensor], draws: Draws, samples: int
) -> Evidence:
    r"""Estimate :math:`\log p(x) = \log \sum_z p(x, z)`.

    Exactly, by enumeration, for a categorical latent, and where there are no more states than ``samples``. For a sparse q over
    more bit vectors, with A its support and M the number of states outside it,

    .. math:: \log \Big[ \sum_{z \in A} p(x, z) + \frac{M}{S} \sum_{s=1}^{S} p(x, z_s) \Big], \quad z_s \notin A
        \text{ uniform},

    so that no state is counted twice. Otherwise, and for a Gaussian, by importance sampling from q,
    :math:`\log \frac{1}{S} \sum_s p(x, z_s) / q(z_s)`. Both are consistent, and below log p(x) on average.

    Args:
        estimator: whose q is used.
        scores: ``[B, V]``.
        log_joint: ``log p(x, z)`` of N pairs, ``[N]``.
        draws: source of randomness.
        samples: S, for each example; at least 2.

    References:
        - Burda, Grosse and Salakhutdinov (2016), Importance weighted autoencoders, https://arxiv.org/abs/1509.00519.
        - Correia, Niculae, Aziz and Martins (2020), https://arxiv.org/abs/2007.01919, for the sparse q.
    """
    space: Any = estimator.space(scores)
    if isinstance(space, Categorical) or space.states <= samples:
        joint = _in_parts(log_joint, space, space.all_states())
        return Evidence(joint.logsumexp(1), joint.new_zeros(len(joint)))
    if estimator.marginalizes:
        return _beside_the_support(estimator, scores, log_joint, draws, samples)
    states = space.sample(draws, samples)
    return Evidence.mean(_in_parts(log_joint, space, states) - space.log_probability(states).double())


def _in_parts(log_joint: Callable[[Latents], Tensor], space: Any, states: Tensor) -> Tensor:
    """``log p(x, z)`` of states, ``[B, S]``, decoded a part at a time."""
    parts = torch.split(states, max(1, PAIRS_AT_ONCE // len(states)), 1)
    return torch.cat([log_joint(space.select(part)).double().view(len(states), -1) for part in parts], 1)


def _beside_the_support(
    estimator: Estimator, scores: Tensor, log_joint: Callable[[Latents], Tensor], draws: Draws, samples: int
) -> Evidence:
    support = estimator.propose(scores, draws).latents
    masked = torch.where(support.pad(torch.ones_like(support.row)) > 0, 0.0, -torch.inf)
    inside = (support.pad(log_joint(support).double()) + masked).logsumexp(1)
    size = scores.shape[1]
    # The logarithm of 2^D less the size of the support; minus infinity where the support is everything.
    others = size * math.log(2) + torch.log1p(-support.counts.double() * 2.0**-size)
    states, used = _uniform_outside(support, draws, samples, others > -torch.inf)
    joint = _in_parts(log_joint, BitVector(scores), states)
    mean = Evidence.mean(joint, used | (others == -torch.inf).unsqueeze(1))
    outside = mean.value + others
    value = torch.logaddexp(inside, outside)
    return Evidence(value, mean.variance * (2 * (outside - value)).exp())


def _uniform_outside(support: Latents, draws: Draws, samples: int, needed: Tensor) -> tuple[Tensor, Tensor]:
    """Uniform bit vectors ``[B, S, D]``, and which of them ``[B, S]`` lie outside the support: at least two where needed.

    Fewer would have no variance to tell.
    """
    listed, there = support.pad(support.value), support.pad(torch.ones_like(support.row)) > 0
    halves = listed.new_full((len(listed), samples, listed.shape[2]), 0.5)
    states, outside = halves, halves.new_zeros(halves.shape[:2], dtype=torch.bool)
    while (lacking := needed & (outside.sum(1) < 2)).any():
        states = torch.where(lacking[:, None, None], draws.bernoulli(halves), states)
        # Bits in which a drawn state and one of the support differ.
        distance = states.sum(2).unsqueeze(2) + listed.sum(2).unsqueeze(1) - 2 * states @ listed.transpose(1, 2)
        outside = ~((distance < 0.5) & there.unsqueeze(1)).any(2)
    return states, outside
