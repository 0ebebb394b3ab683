"""Statistics against values computed by hand, against enumeration, and against SciPy."""

import math
import random
import statistics
import sys
from itertools import product

import pytest

from latent.reports.runs import ResultsError
from latent.reports.statistics import (
    censored_median,
    holm,
    mean_and_std,
    paired_difference,
    sign_flip_p,
    smallest_p,
)

stats = pytest.importorskip("scipy.stats")


def draws(seed, n, digits=None):
    """Normal numbers with mean 0.4; with ``digits``, rounded so that sums of them tie."""
    generator = random.Random(seed)
    values = [generator.gauss(0.4, 1) for _ in range(n)]
    return values if digits is None else [round(value, digits) for value in values]


# Spread.


def check_spread(function):
    """Two values by hand: the squares of both distances from 2 add up to 2, over n − 1 = 1."""
    assert function([1.0, 3.0]) == (2.0, math.sqrt(2))


def test_the_standard_deviation_is_that_of_a_sample():
    check_spread(mean_and_std)
    mean, spread = mean_and_std([2, 4, 4, 4, 5, 5, 7, 9])
    assert mean == 5.0
    assert spread == pytest.approx(math.sqrt(32 / 7), rel=1e-15)
    for n in range(2, 9):
        assert mean_and_std(draws(n, n))[1] == statistics.stdev(draws(n, n))


def test_the_standard_deviation_of_a_population_is_found_out():
    with pytest.raises(AssertionError):
        check_spread(lambda values: (statistics.mean(values), statistics.pstdev(values)))


def test_a_single_value_has_no_spread_and_none_no_mean():
    assert mean_and_std([3]) == (3.0, None)
    with pytest.raises(statistics.StatisticsError):
        mean_and_std([])


def test_equal_values_have_a_spread_of_exactly_zero():
    assert mean_and_std([0.1] * 7) == (0.1, 0.0)


# Paired differences.


def test_a_paired_difference_by_hand():
    """Differences 1, 2, 3: mean 2, s = 1; the quantile with 2 degrees of freedom is 4.30265; 2 of 8 patterns reach the sum."""
    found = paired_difference([11.0, 12.0, 13.0], [10.0, 10.0, 10.0])
    assert (found.n, found.mean, found.p) == (3, 2.0, 0.25)
    assert found.low == pytest.approx(2 - 4.30265273 / math.sqrt(3), abs=1e-7)
    assert found.high == pytest.approx(2 + 4.30265273 / math.sqrt(3), abs=1e-7)


@pytest.mark.parametrize("n", [2, 3, 5, 10, 30])
def test_the_interval_is_that_of_scipy(n):
    ours, reference = draws(n, n), draws(100 + n, n)
    found, expected = paired_difference(ours, reference), stats.ttest_rel(ours, reference).confidence_interval(0.95)
    assert found.low == pytest.approx(expected.low, rel=1e-12)
    assert found.high == pytest.approx(expected.high, rel=1e-12)
    assert found.mean == pytest.approx(statistics.fmean(ours) - statistics.fmean(reference), rel=1e-12)


@pytest.mark.parametrize(("shift", "p"), [(0.5, 0.125), (-0.5, 0.125), (0.0, 1.0)])
def test_equal_differences_have_numbers_for_everything(shift, p):
    found = paired_difference([1 + shift, 2 + shift, 3 + shift, 4 + shift], [1, 2, 3, 4])
    assert (found.mean, found.low, found.high, found.p) == (shift, shift, shift, p)


def test_differences_that_cannot_be():
    with pytest.raises(ValueError, match="two differences or more"):
        paired_difference([1.0], [2.0])
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        paired_difference([1.0, 2.0], [2.0])


# The permutation test.


def enumerated(differences):
    """The share of all sign patterns whose sum is as far from zero as the one observed."""
    observed = abs(sum(differences))
    patterns = list(product((-1, 1), repeat=len(differences)))
    return sum(abs(sum(map(math.prod, zip(p, differences, strict=True)))) >= observed - 1e-9 for p in patterns) / len(patterns)


@pytest.mark.parametrize("digits", [None, 1, 0])
@pytest.mark.parametrize("n", [2, 3, 4, 5, 8, 11])
def test_p_is_that_of_all_sign_patterns(n, digits):
    for seed in range(4):
        differences = draws(seed, n, digits)
        assert sign_flip_p(differences) == pytest.approx(enumerated(differences), abs=1e-12)


def test_patterns_that_tie_but_for_rounding_are_counted():
    """The first three cancel, but not in floating point: all patterns reach the sum, which is the last."""
    differences = [70.5, 60.2, -130.7, 0.003]
    assert sign_flip_p(differences) == enumerated(differences) == 1.0
    assert sign_flip_p([1e-6 * difference for difference in differences]) == 1.0


@pytest.mark.parametrize("n", range(2, 12))
def test_the_smallest_p_is_that_of_differences_of_one_sign(n):
    assert smallest_p(n) == 2.0 ** (1 - n)
    assert sign_flip_p([1.0] * n) == smallest_p(n)
    assert sign_flip_p([1.0 + i for i in range(n)]) == smallest_p(n)


def test_many_differences_are_permuted_at_random_but_alike():
    """20 differences of size one, 14 of them positive: p is twice the upper tail of a binomial distribution."""
    differences = [1.0] * 14 + [-1.0] * 6
    exact = 2 * sum(math.comb(20, k) for k in range(14, 21)) / 2**20
    assert sign_flip_p(differences) == pytest.approx(exact, abs=5 * math.sqrt(exact / 2**16))
    assert sign_flip_p([1.0] * 17) >= smallest_p(17) > 0


def test_without_scipy_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.stats", None)
    with pytest.raises(ResultsError, match=r"needs SciPy.*pip install 'discrete-latent\[report\]'"):
        paired_difference([1.0, 2.0], [0.0, 0.0])


# Several comparisons.


def test_holm_by_hand():
    """Sorted 0.005, 0.01, 0.03, 0.04, times 4, 3, 2, 1: 0.02, 0.03, 0.06, 0.04; the last rises to the one before."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([0.2]) == [0.2]
    assert holm([]) == []


def rejected(p_values, level):
    """Holm's procedure as he defines it: from the smallest p on, stop at the first above its share of the level."""
    kept = set(range(len(p_values)))
    for rank, i in enumerate(sorted(kept, key=lambda i: p_values[i])):
        if p_values[i] > level / (len(p_values) - rank):
            break
        kept.discard(i)
    return set(range(len(p_values))) - kept


@pytest.mark.parametrize("seed", range(8))
def test_adjusted_values_reject_as_the_procedure_does(seed):
    generator = random.Random(seed)
    p_values = [generator.random() ** 3 for _ in range(6)]
    for level in (0.01, 0.05, 0.2, 0.5):
        assert {i for i, p in enumerate(holm(p_values)) if p <= level} == rejected(p_values, level)


# Censored medians.


@pytest.mark.parametrize(
    ("values", "reached", "value", "known"),
    [
        ([3, 1, 2], [True, True, True], 2, True),
        ([1, 2, 9], [True, True, False], 2, True),
        ([1, 9, 9], [True, False, False], 9, False),
        ([9], [False], 9, False),
        ([9], [True], 9, True),
        ([1, 2, 4, 9], [True, True, True, False], 3, True),
        ([1, 2, 9, 9], [True, True, False, False], 5.5, False),
        ([3, 4, 5, 6, 7], [False, False, True, True, True], 5, False),
        ([3, 4, 5, 6, 7], [False, True, True, True, True], 5, False),
        ([5, 5, 5], [True, True, False], 5, True),
    ],
)
def test_medians_with_values_that_are_only_known_to_be_above(values, reached, value, known):
    found = censored_median(values, reached)
    assert (found.value, found.known, found.reached, found.n) == (value, known, sum(reached), len(values))


@pytest.mark.parametrize("seed", range(20))
def test_no_completion_has_a_smaller_median_and_every_one_has_a_known_median(seed):
    generator = random.Random(seed)
    n = generator.randint(1, 6)
    values, reached = [generator.randint(1, 9) for _ in range(n)], [generator.random() < 0.7 for _ in range(n)]
    found = censored_median(values, reached)
    completions = product(
        *([value] if known else [value, value + 1, 100] for value, known in zip(values, reached, strict=True))
    )
    medians = {statistics.median(completion) for completion in completions}
    assert min(medians) == found.value
    assert (len(medians) == 1) == found.known
