"""Certificates: an estimator's exact bias and variance where its draws are finite, a calibrated test where they are not.

>>> from estimators import build
>>> from estimators.certificates.certify import certify
>>> from estimators.certificates.problems import Problem
>>> certify(build("score_function"), Problem("neural", "peaked")).encoder.bias  # about 1e-16

The oracle shares no derivative with the estimators: the gradient of the encoder is a six-point difference of the exact
objective, whose probabilities the estimator states and whose losses are those of all states.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from estimators.base import Estimator, check_fit, expected_loss
from estimators.certificates.contract import contract_faults
from estimators.certificates.problems import Problem
from estimators.certificates.quality import POWER, Z_LIMIT, Quality, Tally, joined, quality_of
from estimators.draws import Draws, RandomDraws, enumerate_outcomes
from estimators.seeds import derived_seed

EXACT = 1e-10
"""Largest relative error that counts as none."""
MOST_OUTCOMES = 1024
"""Outcomes of an example's draws that are enumerated; an estimator with more is tested on random draws."""
MOST_JOINT_OUTCOMES = 100
"""Outcomes of a batch of two examples; with more, each is certified alone, and what couples examples goes unseen."""
CHUNK, MOST_SAMPLES = 4_000, 4_000_000


@dataclass(frozen=True)
class Certificate:
    """What :func:`certify` found.

    Attributes:
        problem: name of the problem.
        method: ``enumeration`` of all outcomes of the draws, or ``sampling``.
        outcomes: outcomes enumerated, or samples drawn, of both examples.
        unbiased: whether the estimator is declared to be.
        encoder: quality of the gradient of the scores.
        decoder: quality of the gradient of the decoder's parameters.
        value: quality of the estimates of the objective, and of the expected loss by the pairs' weights.
        calls: expected decoder calls of an example.
        faults: what breaks the contract, whatever the bias.
        largest_z: largest statistic of the calibrated test, in standard errors; zero where outcomes are enumerated.
        power: probability that the calibrated test fails an estimator whose gradient is 5 % too long; one where outcomes are
            enumerated.
    """

    problem: str
    method: str
    outcomes: int
    unbiased: bool
    encoder: Quality
    decoder: Quality
    value: Quality
    calls: float
    faults: tuple[str, ...] = ()
    largest_z: float = 0.0
    power: float = 1.0

    @property
    def is_finite(self) -> bool:
        """Whether every number is one."""
        qualities = (self.encoder, self.decoder, self.value)
        return all(math.isfinite(number) for quality in qualities for number in vars(quality).values())

    @property
    def is_unbiased(self) -> bool:
        """Whether the estimator has been found unbiased. What is not a number is not."""
        if self.method == "sampling":
            return self.largest_z < Z_LIMIT and self.power >= POWER
        return all(quality.bias <= EXACT for quality in (self.encoder, self.decoder, self.value))


def certify(estimator: Estimator, problem: Problem) -> Certificate:
    """Compare an estimator's expected gradients with the exact ones, for the encoder and for the decoder.

    The estimator is copied, trained for three steps so that baselines know a past, and its parameters are moved at random:
    a certificate must hold in any state.

    Args:
        estimator: of this project or not.
        problem: one of ``problems.family(latent)``, or another.

    Raises:
        OptionError: if the estimator needs what the problem's latent cannot do.
    """
    check_fit(estimator, problem.space(problem.scores))
    estimator = _in_some_state(estimator, problem)
    case = _Case(estimator, problem)
    try:
        groups = [_limited(case.outcomes([row]), MOST_OUTCOMES) for row in (0, 1)]
        if 0 < math.prod(map(len, groups)) <= MOST_JOINT_OUTCOMES:
            together = _limited(case.outcomes([0, 1]), MOST_JOINT_OUTCOMES)
            groups = [together] if together else groups
    except TypeError:
        groups = [[]]
    faults = contract_faults(estimator, problem, coupling=len(groups) > 1 or not groups[0])
    certificate = case.exact_certificate(groups) if all(groups) else case.sampled_certificate()
    return replace(certificate, faults=faults)


@dataclass(frozen=True)
class _Result:
    """One outcome: its probability, gradients ``[B, V + P]``, values ``[B, 2]`` and decoder calls ``[B]``."""

    probability: float
    gradient: Tensor
    value: Tensor
    calls: Tensor


def _limited(outcomes: Iterator[_Result], most: int) -> list[_Result]:
    """All of them, or none if they are more than ``most``."""
    first = list(itertools.islice(outcomes, most + 1))
    return first if len(first) <= most else []


def _in_some_state(estimator: Estimator, problem: Problem) -> Estimator:
    estimator = copy.deepcopy(estimator).double().train()
    draws = RandomDraws(torch.Generator().manual_seed(derived_seed("warm up")))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed("lazy parameters"))
        for _ in range(3):
            space = problem.space(problem.scores.clone().requires_grad_())
            proposal = estimator.propose(space, draws, problem.context)
            losses = problem.losses(proposal.pairs, problem.parameters.clone().requires_grad_())
            estimator.combine(proposal, losses)
        with torch.no_grad():
            for parameter in estimator.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
    return estimator


class _Case:
    """An estimator on a problem."""

    def __init__(self, estimator: Estimator, problem: Problem) -> None:
        self.estimator = estimator
        self.problem = problem
        self.size = problem.scores.shape[1]
        self.state = [buffer.clone() for buffer in estimator.buffers()]

    def run(self, draws: Draws, rows: Tensor) -> _Result:
        """Gradients of the examples ``rows``, which may repeat; the estimator is as it was afterwards."""
        try:
            return self._run(draws, rows)
        finally:
            for buffer, before in zip(self.estimator.buffers(), self.state, strict=True):
                buffer.copy_(before)

    def _run(self, draws: Draws, rows: Tensor) -> _Result:
        scores = self.problem.scores[rows].requires_grad_()
        parameters = self.problem.parameters[rows].requires_grad_()
        proposal = self.estimator.propose(self.problem.space(scores), draws, self.problem.context[rows])
        losses = self.problem.losses(proposal.pairs, parameters)
        estimate = self.estimator.combine(proposal, losses)
        gradients = torch.autograd.grad(estimate.surrogate.sum(), [scores, parameters], materialize_grads=True)
        weighted = proposal.pairs.sum(estimate.weights * losses.detach())
        values = torch.stack([estimate.value.detach(), weighted.detach()], 1)
        return _Result(1.0, torch.cat(gradients, 1), values, estimate.decoder_calls)

    def outcomes(self, rows: list[int]) -> Iterator[_Result]:
        """Every outcome of the draws of these examples in one batch."""
        index = torch.tensor(rows)
        for probability, result in enumerate_outcomes(lambda draws: self.run(draws, index)):
            yield replace(result, probability=probability)

    @cached_property
    def exact(self) -> Tensor:
        """``[2, V + P]``: the exact gradients."""
        problem, objective = self.problem, self.estimator.objective
        parameters = problem.parameters.clone().requires_grad_()
        with torch.no_grad():
            q = self.estimator.probabilities(problem.space(problem.scores))
        losses = problem.all_losses(parameters)
        (decoder,) = torch.autograd.grad(objective(q, losses).sum(), parameters)
        # Central differences of sixth order: their error is about 1e-12 where the objective is smooth.
        step = 3e-4
        stencil = torch.tensor([-1, 9, -45, 45, -9, 1], dtype=torch.float64) / 60 / step
        offsets = torch.tensor([-3, -2, -1, 1, 2, 3], dtype=torch.float64) * step
        moves = torch.einsum("o,ij->oij", offsets, torch.eye(self.size, dtype=torch.float64))
        moved = problem.scores + moves.unsqueeze(2)  # [6, V, 2, V]
        with torch.no_grad():
            q = self.estimator.probabilities(problem.space(moved.flatten(0, 2)))
            values = objective(q, losses.detach().repeat(6 * self.size, 1)).view(6, self.size, 2)
        encoder = torch.einsum("o,oib->bi", stencil, values)
        return torch.cat([encoder, decoder], 1)

    @cached_property
    def exact_values(self) -> Tensor:
        """``[2, 2]``: the exact objective and the exact expected loss of each example."""
        problem = self.problem
        with torch.no_grad():
            losses = problem.all_losses(problem.parameters)
            q = self.estimator.probabilities(problem.space(problem.scores))
            return torch.stack([self.estimator.objective(q, losses), expected_loss(q, losses)], 1)

    def parts(self, gradients: Tensor) -> tuple[Tensor, Tensor]:
        """The gradient of the scores and that of the decoder, of ``[..., B, V + P]``, each flattened."""
        return gradients[..., : self.size].flatten(-2), gradients[..., self.size :].flatten(-2)

    def exact_certificate(self, groups: list[list[_Result]]) -> Certificate:
        """From all outcomes of the batch, or of each example alone."""
        rows = [slice(0, 2)] if len(groups) == 1 else [slice(0, 1), slice(1, 2)]
        qualities: list[list[Quality]] = []
        calls = []
        for results, row in zip(groups, rows, strict=True):
            p = torch.tensor([result.probability for result in results], dtype=torch.float64)
            found = self.parts(torch.stack([result.gradient for result in results]))
            values = torch.stack([result.value for result in results])
            pairs = zip(
                (*found, values.flatten(1)),
                (*self.parts(self.exact[row]), self.exact_values[row].flatten()),
                strict=True,
            )
            qualities.append([quality_of(p, samples, exact) for samples, exact in pairs])
            calls.append(torch.einsum("o,ob->b", p, torch.stack([result.calls.double() for result in results])))
        encoder, decoder, value = (joined([quality[i] for quality in qualities]) for i in (0, 1, 2))
        return Certificate(
            problem=self.problem.name,
            method="enumeration",
            outcomes=sum(map(len, groups)),
            unbiased=self.estimator.unbiased,
            encoder=encoder,
            decoder=decoder,
            value=value,
            calls=float(torch.cat(calls).mean()),
        )

    def sampled_certificate(self) -> Certificate:
        """From random draws, until the test has the power that it needs."""
        draws = RandomDraws(torch.Generator().manual_seed(derived_seed("certificate", self.problem.name)))
        tallies = [Tally(exact) for exact in (*self.parts(self.exact), self.exact_values.flatten())]
        index = torch.arange(2).repeat(CHUNK)
        calls, samples = 0.0, 0
        while samples < MOST_SAMPLES:
            result = self.run(draws, index)
            found = (*self.parts(result.gradient.view(CHUNK, 2, -1)), result.value.view(CHUNK, -1))
            for tally, values in zip(tallies, found, strict=True):
                tally.add(values)
            calls += float(result.calls.double().mean()) * CHUNK
            samples += CHUNK
            if min(tally.power for tally in tallies[:2]) >= POWER:
                break
        return Certificate(
            problem=self.problem.name,
            method="sampling",
            outcomes=samples,
            unbiased=self.estimator.unbiased,
            encoder=tallies[0].quality(),
            decoder=tallies[1].quality(),
            value=tallies[2].quality(),
            calls=calls / samples,
            largest_z=float(torch.tensor([tally.largest_z for tally in tallies]).max()),  # NaN, if one is
            power=min(tally.power for tally in tallies[:2]),
        )
