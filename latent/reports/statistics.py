"""Statistics of runs that differ in their seeds: spread, paired differences, exact tests and censored medians."""

from __future__ import annotations

import importlib
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from latent.reports.runs import ResultsError

CONFIDENCE = 0.95
MOST_FLIPS = 2**16
"""Sign patterns that are all enumerated; where there are more, as many are drawn at random from a fixed seed."""


@dataclass(frozen=True)
class PairedDifference:
    """The mean of n differences, each of two runs with one seed.

    Attributes:
        n: pairs.
        mean: mean difference, in the unit of what is compared.
        low: lower end of its confidence interval.
        high: upper end.
        p: p-value of the sign-flip test, two-sided.
    """

    n: int
    mean: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class CensoredMedian:
    """A median that some values are only known to lie above, as when a run ends before it gets there.

    Attributes:
        value: the median, or the most that it is known to be above.
        known: whether it is the median.
        reached: values that are known exactly.
        n: all values.
    """

    value: float
    known: bool
    reached: int
    n: int


def mean_and_std(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation, which a single value has not.

    m = Σ xᵢ / n and s = √(Σ (xᵢ − m)² / (n − 1)), in the unit of the values.

    Raises:
        statistics.StatisticsError: if there are no values.

    Reference: R. A. Fisher: Statistical Methods for Research Workers, 1925.
    """
    values = [float(value) for value in values]
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else None


def paired_difference(values: Sequence[float], reference: Sequence[float]) -> PairedDifference:
    """Mean of the differences dᵢ = valueᵢ − referenceᵢ, its confidence interval and its p-value.

    The interval is m ± t s / √n, with mean m and sample standard deviation s of the differences and the quantile t of
    Student's distribution with n − 1 degrees of freedom that leaves 2.5 % above it. It is exact for normal differences; where
    all differences are equal, it has no width.

    Raises:
        ValueError: if there are fewer than two pairs, or not as many values as reference values.
        ResultsError: if SciPy is not installed.

    Reference: Student: The Probable Error of a Mean, 1908.
    """
    differences = [float(value) - float(other) for value, other in zip(values, reference, strict=True)]
    p = sign_flip_p(differences)
    mean, spread = statistics.mean(differences), statistics.stdev(differences)
    quantile = float(_scipy_stats().t.ppf((1 + CONFIDENCE) / 2, len(differences) - 1))
    half = quantile * spread / math.sqrt(len(differences))
    return PairedDifference(len(differences), mean, mean - half, mean + half, p)


def sign_flip_p(differences: Sequence[float]) -> float:
    """Two-sided p-value of the hypothesis that every difference is as likely to be its negative.

    p is the share of the 2ⁿ sign patterns s with |Σ sᵢ dᵢ| ≥ |Σ dᵢ|: 2 / 2ⁿ or more, and 1 where all differences are zero. For
    more than 16 differences ``MOST_FLIPS`` patterns are drawn, always the same, and the one that was observed is counted among
    them, which keeps the test valid.

    Raises:
        ValueError: if there are fewer than two differences.
        ResultsError: if SciPy is not installed.

    References: R. A. Fisher: The Design of Experiments, 1935, section 21; B. Phipson, G. K. Smyth: Permutation P-values
    Should Never Be Zero, 2010.
    """
    if len(differences) < 2:
        raise ValueError("a sign-flip test needs two differences or more")
    largest = max(map(abs, differences))
    if largest == 0:
        return 1.0
    result = _scipy_stats().permutation_test(
        ([difference / largest for difference in differences],),
        lambda x, axis: x.mean(axis).round(12),  # else patterns that tie would differ by an error of rounding
        permutation_type="samples",
        vectorized=True,
        n_resamples=MOST_FLIPS,
        rng=0,
    )
    return float(result.pvalue)


def smallest_p(n: int) -> float:
    """The smallest p-value that :func:`sign_flip_p` can give n differences: 2 of 2ⁿ patterns, 2¹⁻ⁿ."""
    return max(2.0 ** (1 - n), 2 / (MOST_FLIPS + 1) if 2**n > MOST_FLIPS else 0.0)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values that hold for all of m comparisons together, in the order given.

    With p sorted upwards, the i-th becomes the largest of min(1, (m − j + 1) p₍ⱼ₎) over j ≤ i. Rejecting where it is at most
    α makes a false rejection with a probability of at most α, however the comparisons depend on each other.

    Reference: S. Holm: A Simple Sequentially Rejective Multiple Test Procedure, 1979.
    """
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = highest
    return adjusted


def censored_median(values: Sequence[float], reached: Sequence[bool]) -> CensoredMedian:
    """Median of values of which those not reached are only known to be above what is given for them.

    It lies between the median that has them at what is given and the one that has them at infinity. Where the two are one, it
    is known; else it is above the former. For an odd number of values of which all censored ones lie above the median it is
    that of the product-limit estimate.

    Raises:
        statistics.StatisticsError: if there are no values.

    Reference: E. L. Kaplan, P. Meier: Nonparametric Estimation from Incomplete Observations, 1958.
    """
    low = statistics.median(values)
    high = statistics.median(value if known else math.inf for value, known in zip(values, reached, strict=True))
    return CensoredMedian(low, low == high, sum(reached), len(values))


def _scipy_stats() -> Any:
    try:
        return importlib.import_module("scipy.stats")
    except ImportError as error:
        raise ResultsError("a comparison needs SciPy, which is not installed: pip install 'discrete-latent[report]'") from error
