"""Expectations under a trained q, taken the same way for every estimator: exact wherever that is affordable."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from estimators.base import Estimator
from estimators.draws import Draws
from estimators.mappings import shannon_entropy
from estimators.pairs import Pairs
from estimators.spaces import Space

MOST_DECODED = 4096
"""States of an example, on average, over which an expectation is summed."""
SAMPLES = 8
"""Samples of each example that an expectation is estimated with, where its states are more."""


class Expectation(NamedTuple):
    """Pairs and weights whose sum is an expectation under q.

    Attributes:
        pairs: N pairs.
        weights: ``[N]``.
        entropy: ``[B]``, of q.
        most_likely: one pair for each example: the most likely state.
        decoder_calls: ``[B]``, pairs that the estimator decodes in training.
        sampled: whether the pairs are independent samples of q; else they are all that has any mass, and sums are exact.
    """

    pairs: Pairs
    weights: Tensor
    entropy: Tensor
    most_likely: Pairs
    decoder_calls: Tensor
    sampled: bool

    def of(self, values: Tensor) -> Tensor:
        """``[B]``: the expectation of ``values`` ``[N]``, or its estimate."""
        return self.pairs.sum(self.weights * values)

    def variances(self, **values: Tensor) -> dict[str, Tensor]:
        """``[B]`` each: the variances of such estimates of ``values`` ``[N]``, by name; none, where they are exact."""
        return {name: self.pairs.pad(each).var(1) / self.pairs.width for name, each in values.items() if self.sampled}


class Measurement(NamedTuple):
    """What a batch of examples shows of a model.

    Attributes:
        metrics: ``[B]`` each.
        variances: ``[B]`` each, of those metrics that are estimates from samples; by the same names.
        examples: ``[B, ...]`` each, such as the most likely state, for people to look at.
    """

    metrics: Mapping[str, Tensor]
    variances: Mapping[str, Tensor]
    examples: Mapping[str, Tensor]


class Evaluation(NamedTuple):
    """What an evaluation found.

    Attributes:
        metrics: means over the examples; where a metric is an estimate from samples, ``<name>_standard_error`` is there too,
            which is what the samples, not the examples, leave uncertain.
        examples: ``[G, ...]`` each, of every example in order.
    """

    metrics: dict[str, float]
    examples: dict[str, Tensor]

    @classmethod
    def of(cls, parts: Sequence[Measurement]) -> Evaluation:
        """From the batches of an evaluation."""
        metrics = {name: float(torch.cat([part.metrics[name].double() for part in parts]).mean()) for name in parts[0].metrics}
        for name in dict.fromkeys(name for part in parts for name in part.variances):
            variances = torch.cat([part.variances.get(name, torch.zeros_like(part.metrics[name])) for part in parts]).double()
            metrics[f"{name}_standard_error"] = math.sqrt(float(variances.sum())) / len(variances)
        return cls(metrics, {name: torch.cat([part.examples[name] for part in parts]).cpu() for name in parts[0].examples})


def expectation(estimator: Estimator, space: Space, draws: Draws) -> Expectation:
    """Take expectations under the q of an estimator.

    Over the support that the estimator itself decodes, where it marginalizes; else over the states with any mass, while they
    are no more than :data:`MOST_DECODED` an example; else over :data:`SAMPLES` samples.
    """
    if estimator.marginalizes:
        proposal = estimator.propose(space, draws)
        pairs = proposal.pairs
        most_likely = _heaviest(pairs, proposal.weights)
        return Expectation(pairs, proposal.weights, proposal.entropy, most_likely, pairs.counts, sampled=False)
    listed = space.listed or estimator.sparse or space.states <= MOST_DECODED
    q = estimator.probabilities(space) if listed else None
    exact = q is not None and int((q > 0).sum()) <= MOST_DECODED * len(q)
    # Samples are drawn before the estimator draws what it decodes: they are the same for every estimator.
    states = None if exact else _samples(space, q, draws)
    most_likely = space.select(space.argmax())
    calls = estimator.propose(space, draws).pairs.counts
    entropy = space.entropy() if q is None else shannon_entropy(q)
    if states is not None:
        pairs = space.select(states)
        weights = space.full(1 / SAMPLES, len(pairs))
        return Expectation(pairs, weights, entropy, most_likely, calls, sampled=True)
    assert q is not None
    keep = q > 0
    pairs = space.enumerate() if keep.all() else space.select(space.all_states(), keep)
    return Expectation(pairs, q[keep], entropy, most_likely, calls, sampled=False)


def _samples(space: Space, q: Tensor | None, draws: Draws) -> Tensor:
    """Samples of q, of which all probabilities are known, or which is the space's own."""
    if q is None:
        return space.sample(draws, SAMPLES)
    return space.at(draws.categorical(q, SAMPLES))


def _heaviest(pairs: Pairs, weights: Tensor) -> Pairs:
    """One pair for each example: that of the largest weight, the first of several."""
    place = pairs.pad(weights).argmax(1, keepdim=True)
    numbers = pairs.pad(torch.arange(len(pairs), device=place.device))
    return pairs.take(numbers.gather(1, place)[:, 0])
