"""What a trained q and decoder are worth: the evidence log p(x), by enumeration or sampling."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from estimators import Estimator, Latents, Space
from estimators.draws import Draws
from estimators.expectations import MOST_DECODED

PAIRS_AT_ONCE = 4096
"""Pairs that an estimate of the evidence decodes at a time, so that its memory does not grow with the number of samples."""


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
    estimator: Estimator, space: Space, log_joint: Callable[[Latents], Tensor], draws: Draws, samples: int
) -> Evidence:
    r"""Estimate :math:`\log p(x) = \log \sum_z p(x, z)`.

    Exactly, by enumeration, for a categorical latent of up to 4,096 states, and where there are no more states than
    ``samples``. For a sparse q over more, with A its support and M the number of states outside it,

    .. math:: \log \Big[ \sum_{z \in A} p(x, z) + \frac{M}{S} \sum_{s=1}^{S} p(x, z_s) \Big], \quad z_s \notin A
        \text{ uniform},

    so that no state is counted twice. Otherwise, and for a Gaussian, by importance sampling from q,
    :math:`\log \frac{1}{S} \sum_s p(x, z_s) / q(z_s)`. Both are consistent, and below log p(x) on average.

    Args:
        estimator: whose q is used.
        space: the latent variable.
        log_joint: ``log p(x, z)`` of N pairs, ``[N]``.
        draws: source of randomness.
        samples: S, for each example; at least 2.

    References:
        - Burda, Grosse and Salakhutdinov (2016), Importance weighted autoencoders, https://arxiv.org/abs/1509.00519.
        - Correia, Niculae, Aziz and Martins (2020), https://arxiv.org/abs/2007.01919, for the sparse q.
    """
    if space.states <= max(samples, MOST_DECODED if space.listed else 0):
        joint = _in_parts(log_joint, space, space.all_states())
        return Evidence(joint.logsumexp(1), joint.new_zeros(len(joint)))
    if estimator.marginalizes:
        return _beside_the_support(estimator, space, log_joint, draws, samples)
    states = space.sample(draws, samples)
    return Evidence.mean(_in_parts(log_joint, space, states) - space.log_probability(states).double())


def _in_parts(log_joint: Callable[[Latents], Tensor], space: Space, states: Tensor) -> Tensor:
    """``log p(x, z)`` of states, ``[B, S]``, decoded a part at a time."""
    parts = torch.split(states, max(1, PAIRS_AT_ONCE // len(states)), 1)
    joint = []
    for part in parts:
        latents = space.select(part)
        assert isinstance(latents, Latents)
        joint.append(log_joint(latents).double().view(len(states), -1))
    return torch.cat(joint, 1)


def _beside_the_support(
    estimator: Estimator, space: Space, log_joint: Callable[[Latents], Tensor], draws: Draws, samples: int
) -> Evidence:
    support = estimator.propose(space, draws).pairs
    assert isinstance(support, Latents)
    masked = torch.where(support.pad(torch.ones_like(support.row)) > 0, 0.0, -torch.inf)
    inside = (support.pad(log_joint(support).double()) + masked).logsumexp(1)
    # The logarithm of the number of states outside the support; minus infinity where the support is everything.
    others = math.log(space.states) + torch.log1p(-support.counts.double() / space.states)
    states, used = _uniform_outside(support, space, draws, samples, others > -torch.inf)
    joint = _in_parts(log_joint, space, states)
    mean = Evidence.mean(joint, used | (others == -torch.inf).unsqueeze(1))
    outside = mean.value + others
    value = torch.logaddexp(inside, outside)
    return Evidence(value, mean.variance * (2 * (outside - value)).exp())


def _uniform_outside(support: Latents, space: Space, draws: Draws, samples: int, needed: Tensor) -> tuple[Tensor, Tensor]:
    """Uniform states, ``S = samples``, and which of them ``[B, S]`` lie outside the support: at least two where needed.

    Fewer would have no variance to tell.
    """
    listed, there = support.pad(support.value), support.pad(torch.ones_like(support.row)) > 0
    uniform = space.rebuilt(torch.zeros_like(space.leaf))
    states = uniform.argmax().repeat_interleave(samples, 1)
    outside = torch.zeros(states.shape[:2], dtype=torch.bool, device=states.device)
    while (lacking := needed & (outside.sum(1) < 2)).any():
        states = torch.where(lacking.view(-1, *[1] * (states.ndim - 1)), uniform.sample(draws, samples), states)
        # Squared distance of a drawn state's vector from one of the support: at least one where they differ.
        drawn = space.vectors(states)
        distance = drawn.sum(2).unsqueeze(2) + listed.sum(2).unsqueeze(1) - 2 * drawn @ listed.transpose(1, 2)
        outside = ~((distance < 0.5) & there.unsqueeze(1)).any(2)
    return states, outside
