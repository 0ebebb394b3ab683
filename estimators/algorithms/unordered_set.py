"""The unordered set estimator: distinct states, drawn without replacement."""

from __future__ import annotations

import itertools
from functools import cache
from typing import final

import torch
from torch import Tensor

from estimators.base import Estimate, Estimator, Proposal
from estimators.draws import Draws
from estimators.options import OptionError
from estimators.spaces import Space

MOST_SAMPLES = 12
"""Largest set: its 2^k subsets are summed over."""


@cache
def _levels(k: int) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
    """For subsets of n = k - 1, ..., 0 of k members: the members outside, and the places of the subsets with each one added.

    Places are among the subsets of n + 1. Besides, the place of every subset in binary among all, larger ones first.
    """
    levels, codes, last = [], [(1 << k) - 1], {(1 << k) - 1: 0}
    for n in range(k - 1, -1, -1):
        outside = [[t for t in range(k) if t not in subset] for subset in itertools.combinations(range(k), n)]
        these = [(1 << k) - 1 - sum(1 << t for t in members) for members in outside]
        larger = [[last[code | 1 << t] for t in members] for code, members in zip(these, outside, strict=True)]
        levels.append((torch.tensor(outside), torch.tensor(larger)))
        last = {code: place for place, code in enumerate(these)}
        codes += these
    return levels, torch.tensor(codes).argsort()


def completion_probabilities(inside: Tensor, outside: Tensor) -> Tensor:
    r"""The probability that the states left complete the set S, once those of a subset A are gone, for every A.

    .. math:: F(S) = 1, \qquad F(A) = \sum_{t \in S \setminus A} \frac{q_t}{1 - q(A)} F(A \cup \{t\})

    The denominators are sums of what is left, ``q(S - A)`` and the mass outside: nothing cancels.

    Args:
        inside: ``[B, k]``, probabilities of the members of S.
        outside: ``[B]``, mass of all other states.

    Returns:
        ``[B, 2^k]``, A in binary, its member t worth 2^t.
    """
    levels, places = _levels(inside.shape[1])
    completion = [inside.new_ones(len(inside), 1)]
    for members, larger in levels:
        q = inside[:, members.to(inside.device)]
        terms = q * completion[-1][:, larger.to(inside.device)]
        completion.append(terms.sum(-1) / (q.sum(-1) + outside.unsqueeze(1)))
    return torch.cat(completion, 1)[:, places.to(inside.device)]


@final
class UnorderedSet(Estimator):
    r"""Unordered set estimator: k distinct states S, sampled without replacement, their order integrated out.

    .. math:: \nabla L \approx \sum_{s \in S} q(s) R(S, s) \big[ \nabla \ell(s)
        + (\ell(s) - b_s) \nabla \log q(s) \big], \qquad R(S, s) = \frac{P(S \mid s \text{ first})}{P(S)},

    .. math:: b_s = \sum_{s' \in S} q(s') R^{\setminus s}(S, s') \ell(s')

    where :math:`R^{\setminus s}` is the ratio in the domain without s, and one for s itself. It is the Rao-Blackwellized form
    of every estimator that draws without replacement. Decoder calls: ``samples``; fewer where fewer states have mass, and
    then it is exact. Unbiased. Its arithmetic grows as 2^k.

    Choose it for a handful of calls on a q of moderate entropy, where samples with replacement would repeat themselves.

    Args:
        samples: states of each example, k, from 1 to 12.
        baseline: subtract the built-in baseline (needs two or more samples).

    Raises:
        OptionError: if an option is out of its range.

    References:
        - Kool, van Hoof and Welling (2020), Estimating gradients for discrete random variables by sampling without
          replacement, https://arxiv.org/abs/2002.06043.
    """

    unbiased = True
    uses = frozenset({"without_replacement", "log_probability", "entropy"})

    def __init__(self, *, samples: int = 4, baseline: bool = True) -> None:
        super().__init__()
        if not 1 + baseline <= samples <= MOST_SAMPLES:
            least = "2 with the baseline" if baseline else "1"
            raise OptionError("samples", f"must be from {least} to {MOST_SAMPLES}, got {samples}")
        self.samples = samples
        self.baseline = baseline

    def propose(self, space: Space, draws: Draws, context: Tensor | None = None) -> Proposal:
        states, keep, outside = space.without_replacement(draws, self.samples)
        k = keep.shape[1]
        log_probability = space.log_probability(states)
        inside = torch.where(keep, log_probability.detach().exp(), 0)
        # No mass outside: all the states there are. Each one's ratio is 1, and some may have no mass.
        complete = outside.unsqueeze(1) == 0
        completion = torch.where(complete, 1.0, completion_probabilities(inside, outside))
        singles = completion[:, [1 << t for t in range(k)]]
        ratios = singles / completion[:, :1]
        pairs = completion[:, [[1 << s | 1 << t for t in range(k)] for s in range(k)]]
        second = pairs / singles.unsqueeze(2)
        return Proposal(
            space.select(states, keep),
            (inside * ratios)[keep],
            space.entropy(),
            log_probability=log_probability.masked_select(keep),
            context=context,
            memory={"shares": (inside.unsqueeze(1) * second)[keep], "keep": keep},
        )

    def combine(self, proposal: Proposal, losses: Tensor) -> Estimate:
        assert proposal.log_probability is not None
        pairs, keep, detached = proposal.pairs, proposal.memory["keep"], losses.detach()
        signal = detached
        if self.baseline:
            everyone = detached.new_zeros(keep.shape).masked_scatter(keep, detached)
            signal = detached - (proposal.memory["shares"] * pairs.gather(everyone)).sum(1)
        value = pairs.sum(proposal.weights * losses)
        surrogate = value + pairs.sum(proposal.weights * signal * proposal.log_probability)
        return Estimate.of(proposal, surrogate=surrogate, value=value)
