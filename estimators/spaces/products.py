"""Independent variables with few values each: what can be done with their product, whose states may be too many to list.

A state is a row of values ``[N]``, one of each variable; a *set* of states is ``[B, S, N]`` int64.
"""

from __future__ import annotations

import torch
from torch import Tensor

from estimators.draws import Draws

NEGLIGIBLE = 1e-12
"""Mass that is taken for a rounding error; of a value, as a share of its own."""


def k_best(scores: Tensor, k: int) -> Tensor:
    """``[B, min(k, K^N), N]``: the k states with the largest sums of scores ``[B, N, K]``, best first.

    The variables join one after another, and the k best beginnings are kept: what comes after adds the same to all that share
    an end, so that none of the others can win.
    """
    batch_size, variables, _ = scores.shape
    total = scores.new_zeros(batch_size, 1)
    states = torch.zeros(batch_size, 1, 0, dtype=torch.int64, device=scores.device)
    for variable in range(variables):
        best, value = scores[:, variable].topk(min(k, scores.shape[2]), 1)
        sums = (total.unsqueeze(2) + best.unsqueeze(1)).flatten(1)
        total, place = sums.topk(min(k, sums.shape[1]), 1)
        beginning = states.gather(1, (place // best.shape[1]).unsqueeze(2).expand(-1, -1, variable))
        states = torch.cat([beginning, value.gather(1, place % best.shape[1]).unsqueeze(2)], 2)
    return states


def sample_outside(log_probabilities: Tensor, listed: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
    r"""Sample a state that is none of a set of distinct ones, exactly, value after value.

    The value of variable n is drawn in proportion to :math:`q_n(v)` less the mass, given the values so far, of the listed
    states that begin with them and go on with v.

    Args:
        log_probabilities: ``[B, N, K]``, normalised.
        listed: ``[B, S, N]``; S may be zero.
        draws: source of randomness: N categorical draws.

    Returns:
        The state ``[B, N]``, and the mass of all that are not listed ``[B]``, in double precision. Where that is
        zero, the state is any.
    """
    log_q = log_probabilities.detach().double()
    of_listed = log_q.unsqueeze(1).expand(-1, listed.shape[1], -1, -1).gather(3, listed.unsqueeze(3))[..., 0]
    ends = of_listed.flip(2).cumsum(2).flip(2).exp()  # mass of the rest of a listed state, from each variable on
    outside = 1 - ends[..., 0].sum(1)
    outside = torch.where(outside > NEGLIGIBLE, outside, 0)
    alive = torch.ones_like(listed[..., 0], dtype=log_q.dtype)
    values = []
    for variable in range(listed.shape[2]):
        q = log_q[:, variable].exp()
        taken = torch.zeros_like(q).scatter_add(1, listed[..., variable], alive * ends[..., variable])
        left = torch.where(q - taken > NEGLIGIBLE * q, q - taken, 0)
        mass = left.sum(1, keepdim=True)
        value = draws.categorical(torch.where(mass > 0, left / mass, q), 1)
        alive = alive * (listed[..., variable] == value)
        values.append(value)
    # A listed state is hit only where nothing else is left.
    return torch.cat(values, 1), torch.where(alive.any(1), 0, outside)


def without_replacement(log_probabilities: Tensor, samples: int, draws: Draws) -> tuple[Tensor, Tensor, Tensor]:
    """Distinct states, drawn one after another in proportion to their probability.

    Returns:
        States ``[B, S, N]``; which of them have any mass ``[B, S]``: the others only fill the tensor; and the mass of those
        that were not drawn ``[B]``, in double precision.
    """
    batch_size, variables, _ = log_probabilities.shape
    states = torch.zeros(batch_size, 0, variables, dtype=torch.int64, device=log_probabilities.device)
    keep: list[Tensor] = []
    for _ in range(samples):
        state, left = sample_outside(log_probabilities, states, draws)
        keep.append(left > 0)
        states = torch.cat([states, state.unsqueeze(1)], 1)
    last = log_probabilities.detach().double().unsqueeze(1).expand(-1, samples, -1, -1).gather(3, states.unsqueeze(3))
    kept = torch.stack(keep, 1)
    outside = 1 - torch.where(kept, last[..., 0].sum(2).exp(), 0).sum(1)
    return states, kept, torch.where(outside > NEGLIGIBLE, outside, 0)
