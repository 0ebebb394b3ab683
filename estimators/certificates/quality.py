"""How far gradients are from the exact one: from all outcomes with their probabilities, or from samples, with a test."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

Z_LIMIT = 5.0
"""Standard errors that no statistic of an unbiased estimator may exceed: by chance, one in two million does."""
PLANTED_BIAS, POWER = 0.05, 0.99
"""A relative bias of 5 % must fail the calibrated test with this probability; samples are drawn until it does."""


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


def length_of(exact: Tensor) -> Tensor:
    """The norm that errors are relative to: one where the exact gradient is zero."""
    norm = exact.norm()
    return norm if norm > 1e-9 else torch.ones_like(norm)


def quality_of(p: Tensor, gradients: Tensor, exact: Tensor) -> Quality:
    """From all outcomes: their probabilities ``[O]``, gradients ``[O, N]``, and the exact gradient ``[N]``."""
    mean = p @ gradients
    length = length_of(exact)
    return Quality(
        bias=float((mean - exact).norm() / length),
        variance=float(p @ (gradients - mean).square().sum(1) / length**2),
        error=float((p @ (gradients - exact).square().sum(1)).sqrt() / length),
        cosine=float(p @ torch.cosine_similarity(gradients, exact.expand_as(gradients), dim=1)),
    )


def joined(qualities: list[Quality]) -> Quality:
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


class Tally:
    """Moments of sampled gradients, about the exact one."""

    def __init__(self, exact: Tensor) -> None:
        self.exact = exact
        self.length = length_of(exact)
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
        return float(
            torch.cat([torch.tensor([abs(along) / max(along_error, 1e-12)]), mean.abs() / error.clamp(min=noise)]).max()
        )

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
