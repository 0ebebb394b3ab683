"""Certificates: an estimator's exact bias and variance where its draws are finite, a calibrated test where they are not.

>>> from estimators import Categorical, build
>>> from estimators.certify import certify
>>> from estimators.problems import Problem
>>> certify(build("score_function"), Categorical, Problem("neural", "peaked")).encoder.bias  # about 1e-16

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

from estimators.base import Estimator
from estimators.draws import Draws, RandomDraws, derived_seed, enumerate_outcomes
from estimators.problems import Problem
from estimators.spaces import Space

EXACT = 1e-10
"""Largest relative error that counts as none."""
MOST_OUTCOMES = 1024
"""Outcomes of an example's draws that are enumerated; an estimator with more is tested on random draws."""
MOST_JOINT_OUTCOMES = 100
"""Outcomes of a batch of two examples; with more, each is certified alone, and what couples examples goes unseen."""
Z_LIMIT = 5.0
"""Standard errors that no statistic of an unbiased estimator may exceed: by chance, one in two million does."""
PLANTED_BIAS, POWER = 0.05, 0.99
"""A relative bias of 5 % must fail the calibrated test with this probability; samples are drawn until it does."""
CHUNK, MOST_SAMPLES = 4_000, 4_000_000


@dataclass(frozen=True)
class Quality:
    """How good an estimator's gradient is, relative to the exact one.

    Attributes:
        bias: ``|E g - g*| / |g*|``.
        variance: ``E |g - E g|^2 / |g*|^2``.
        error: ``sqrt(E |g - g*|^2) / |g*|``, bias and variance together.
        cosine: ``E cos(g, g*)``.
        standard_error: of the bias, where it is measured on random draws; else zero.
    """

    bias: float
    variance: float
    error: float
    cosine: float
    standard_error: float = 0.0


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
        value_bias: relative bias of the estimate of the objective.
        calls: expected decoder calls of an example.
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
    value_bias: float
    calls: float
    largest_z: float = 0.0
    power: float = 1.0

    @property
    def is_unbiased(self) -> bool:
        """Whether the estimator has been found unbiased."""
        if self.method == "sampling":
            return self.largest_z < Z_LIMIT and self.power >= POWER
        return max(self.encoder.bias, self.decoder.bias, self.value_bias) <= EXACT


def certify(estimator: Estimator, space: type[Space], problem: Problem) -> Certificate:
    """Compare an estimator's expected gradients with the exact ones, for the encoder and for the decoder.

    The estimator is copied, trained for three steps so that baselines know a past, and its parameters are moved at random:
    a certificate must hold in any state.

    Args:
        estimator: of this project or not.
        space: the kind of latent that it is for.
        problem: one of ``problems.FAMILY``, or another.

    Raises:
        ValueError: if the estimator is for another kind of latent.
    """
    if estimator.space is not space:
        raise ValueError(f"this estimator is for a {estimator.space.name} latent, not for a {space.name} one")
    estimator = _in_some_state(estimator, problem)
    case = _Case(estimator, problem)
    try:
        found = list(_limited(case.outcomes([0, 1]), MOST_JOINT_OUTCOMES))
        groups = [found] if found else [list(_limited(case.outcomes([row]), MOST_OUTCOMES)) for row in (0, 1)]
    except TypeError:
        groups = [[]]
    if all(groups):
        return case.exact_certificate(groups)
    return case.sampled_certificate()


@dataclass(frozen=True)
class _Result:
    """One outcome: its probability, gradients ``[B, V + P]``, values ``[B]`` and decoder calls ``[B]``."""

    probability: float
    gradient: Tensor
    value: Tensor
    calls: Tensor


def _limited(outcomes: Iterator[_Result], most: int) -> Iterator[_Result]:
    """All of them, or none if they are more than ``most``."""
    first = list(itertools.islice(outcomes, most + 1))
    return iter(first if len(first) <= most else [])


def _in_some_state(estimator: Estimator, problem: Problem) -> Estimator:
    estimator = copy.deepcopy(estimator).double().train()
    draws = RandomDraws(torch.Generator().manual_seed(derived_seed("warm up")))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed("lazy parameters"))
        for _ in range(3):
            proposal = estimator.propose(problem.scores.clone().requires_grad_(), draws, problem.context)
            losses = problem.losses(proposal.latents, problem.parameters.clone().requires_grad_())
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

    def run(self, draws: Draws, rows: Tensor) -> _Result:
        """Gradients of the examples ``rows``, which may repeat."""
        fresh = copy.deepcopy(self.estimator) if self.stateful else self.estimator
        scores = self.problem.scores[rows].requires_grad_()
        parameters = self.problem.parameters[rows].requires_grad_()
        proposal = fresh.propose(scores, draws, self.problem.context[rows])
        estimate = fresh.combine(proposal, self.problem.losses(proposal.latents, parameters))
        gradients = torch.autograd.grad(estimate.surrogate.sum(), [scores, parameters], materialize_grads=True)
        return _Result(1.0, torch.cat(gradients, 1), estimate.value, estimate.decoder_calls)

    @cached_property
    def stateful(self) -> bool:
        """Whether a step of training changes the estimator."""
        return any(True for _ in self.estimator.buffers())

    def outcomes(self, rows: list[int]) -> Iterator[_Result]:
        """Every outcome of the draws of these examples in one batch."""
        index = torch.tensor(rows)
        for probability, result in enumerate_outcomes(lambda draws: self.run(draws, index)):
            yield replace(result, probability=probability)

    @cached_property
    def exact(self) -> Tensor:
        """``[2, V + P]``: the exact gradients."""
        problem, objective, space = self.problem, self.estimator.objective, self.estimator.space
        parameters = problem.parameters.clone().requires_grad_()
        with torch.no_grad():
            q = self.estimator.probabilities(problem.scores)
        losses = problem.all_losses(space, problem.scores, parameters)
        (decoder,) = torch.autograd.grad(objective(q, losses).sum(), parameters)
        # Central differences of sixth order: their error is about 1e-12 where the objective is smooth.
        step = 3e-4
        stencil = torch.tensor([-1, 9, -45, 45, -9, 1], dtype=torch.float64) / 60 / step
        offsets = torch.tensor([-3, -2, -1, 1, 2, 3], dtype=torch.float64) * step
        moves = torch.einsum("o,ij->oij", offsets, torch.eye(self.size, dtype=torch.float64))
        moved = problem.scores + moves.unsqueeze(2)  # [6, V, 2, V]
        with torch.no_grad():
            q = self.estimator.probabilities(moved.flatten(0, 2))
            values = objective(q, losses.detach().repeat(6 * self.size, 1)).view(6, self.size, 2)
        encoder = torch.einsum("o,oib->bi", stencil, values)
        return torch.cat([encoder, decoder], 1)

    @cached_property
    def exact_value(self) -> Tensor:
        """``[2]``: the exact objective."""
        problem = self.problem
        with torch.no_grad():
            losses = problem.all_losses(self.estimator.space, problem.scores, problem.parameters)
            return self.estimator.objective(self.estimator.probabilities(problem.scores), losses)

    def parts(self, gradients: Tensor) -> tuple[Tensor, Tensor]:
        """The gradient of the scores and that of the decoder, of ``[..., B, V + P]``, each flattened."""
        return gradients[..., : self.size].flatten(-2), gradients[..., self.size :].flatten(-2)

    def exact_certificate(self, groups: list[list[_Result]]) -> Certificate:
        """From all outcomes of the batch, or of each example alone."""
        rows = [slice(0, 2)] if len(groups) == 1 else [slice(0, 1), slice(1, 2)]
        qualities: list[list[Quality]] = []
        values, calls = [], []
        for results, row in zip(groups, rows, strict=True):
            p = torch.tensor([result.probability for result in results], dtype=torch.float64)
            gradients = torch.stack([result.gradient for result in results])
            pairs = zip(self.parts(gradients), self.parts(self.exact[row]), strict=True)
            qualities.append([_quality(p, found, exact) for found, exact in pairs])
            values.append(torch.einsum("o,ob->b", p, torch.stack([result.value for result in results])))
            calls.append(torch.einsum("o,ob->b", p, torch.stack([result.calls.double() for result in results])))
        encoder, decoder = (_joined([quality[i] for quality in qualities]) for i in (0, 1))
        error = (torch.cat(values) - self.exact_value).norm() / self.exact_value.norm()
        outcomes = sum(map(len, groups))
        unbiased = self.estimator.unbiased
        mean_calls = float(torch.cat(calls).mean())
        return Certificate(self.problem.name, "enumeration", outcomes, unbiased, encoder, decoder, float(error), mean_calls)

    def sampled_certificate(self) -> Certificate:
        """From random draws, until the test has the power that it needs; the estimator's state stays as it is."""
        self.estimator.eval()
        draws = RandomDraws(torch.Generator().manual_seed(derived_seed("certificate", self.problem.name)))
        tallies = [_Tally(exact) for exact in self.parts(self.exact)]
        index = torch.arange(2).repeat(CHUNK)
        value, calls, samples = torch.zeros(2, dtype=torch.float64), 0.0, 0
        while samples < MOST_SAMPLES:
            result = self.run(draws, index)
            for tally, gradients in zip(tallies, self.parts(result.gradient.view(CHUNK, 2, -1)), strict=True):
                tally.add(gradients)
            value += result.value.view(CHUNK, 2).sum(0)
            calls += float(result.calls.double().mean()) * CHUNK
            samples += CHUNK
            if min(tally.power for tally in tallies) >= POWER:
                break
        error = (value / samples - self.exact_value).norm() / self.exact_value.norm()
        return Certificate(
            problem=self.problem.name,
            method="sampling",
            outcomes=samples,
            unbiased=self.estimator.unbiased,
            encoder=tallies[0].quality(),
            decoder=tallies[1].quality(),
            value_bias=float(error),
            calls=calls / samples,
            largest_z=max(tally.largest_z for tally in tallies),
            power=min(tally.power for tally in tallies),
        )


def _length(exact: Tensor) -> Tensor:
    """The norm that errors are relative to: one where the exact gradient is zero."""
    norm = exact.norm()
    return norm if norm > 1e-9 else torch.ones_like(norm)


def _quality(p: Tensor, gradients: Tensor, exact: Tensor) -> Quality:
    mean = p @ gradients
    length = _length(exact)
    return Quality(
        bias=float((mean - exact).norm() / length),
        variance=float(p @ (gradients - mean).square().sum(1) / length**2),
        error=float((p @ (gradients - exact).square().sum(1)).sqrt() / length),
        cosine=float(p @ torch.cosine_similarity(gradients, exact.expand_as(gradients), dim=1)),
    )


def _joined(qualities: list[Quality]) -> Quality:
    """Of examples that were certified one by one: the root of the mean square of errors, the mean of the others."""

    def root(values: list[float]) -> float:
        return math.sqrt(math.fsum(value**2 for value in values) / len(values))

    def mean(values: list[float]) -> float:
        return math.fsum(values) / len(values)

    return Quality(
        bias=root([quality.bias for quality in qualities]),
        variance=mean([quality.variance for quality in qualities]),
        error=root([quality.error for quality in qualities]),
        cosine=mean([quality.cosine for quality in qualities]),
    )


class _Tally:
    """Moments of sampled gradients, about the exact one."""

    def __init__(self, exact: Tensor) -> None:
        self.exact = exact
        self.length = _length(exact)
        self.count = 0
        self.sum = torch.zeros_like(exact)
        self.squares = torch.zeros_like(exact)
        self.along = torch.zeros(2, dtype=torch.float64)
        self.cosine = 0.0

    def add(self, gradients: Tensor) -> None:
        """Add ``[S, N]`` samples."""
        errors = gradients - self.exact
        along = errors @ self.exact / self.length**2
        self.count += len(errors)
        self.sum += errors.sum(0)
        self.squares += errors.square().sum(0)
        self.along += torch.stack([along.sum(), along.square().sum()])
        self.cosine += float(torch.cosine_similarity(gradients, self.exact.expand_as(gradients), dim=1).sum())

    @property
    def _errors(self) -> tuple[Tensor, Tensor]:
        """Mean error of each coordinate, and its standard error."""
        mean = self.sum / self.count
        return mean, ((self.squares / self.count - mean**2).clamp(min=0) / self.count).sqrt()

    @property
    def _along(self) -> tuple[float, float]:
        """Mean error along the exact gradient, as a share of its length, and its standard error."""
        mean, square = (self.along / self.count).tolist()
        return mean, math.sqrt(max(square - mean**2, 0.0) / self.count)

    @property
    def largest_z(self) -> float:
        """The largest deviation in standard errors: along the exact gradient, or of a coordinate."""
        mean, error = self._errors
        along, along_error = self._along
        noise = 1e-12 * self.length
        return max(abs(along) / max(along_error, 1e-12), float((mean.abs() / error.clamp(min=noise)).max()))

    @property
    def power(self) -> float:
        """The probability that an estimator whose gradient is 5 % too long would fail."""
        excess = PLANTED_BIAS / max(self._along[1], 1e-12) - Z_LIMIT
        return 0.5 * math.erfc(-excess / math.sqrt(2))

    def quality(self) -> Quality:
        """As measured; the bias is freed of what chance adds to its square."""
        mean, error = self._errors
        length = float(self.length)
        chance = float(error.square().sum())
        return Quality(
            bias=math.sqrt(max(float(mean.square().sum()) - chance, 0.0)) / length,
            variance=chance * self.count / length**2,
            error=math.sqrt(float(self.squares.sum()) / self.count) / length,
            cosine=self.cosine / self.count,
            standard_error=math.sqrt(chance) / length,
        )
