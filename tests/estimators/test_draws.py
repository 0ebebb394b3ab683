"""Random draws follow their distributions; enumerated ones visit every outcome once."""

import pytest
import torch
from scipy import stats

from estimators import RandomDraws, derived_seed, enumerate_outcomes


def draws(seed=0):
    return RandomDraws(torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("samples", [1, 4])
def test_categorical_draws_have_the_given_frequencies(samples):
    probabilities = torch.tensor([0.5, 0.0, 0.3, 0.2])
    index = draws().categorical(probabilities.expand(50_000, -1), samples)
    counts = torch.bincount(index.flatten(), minlength=4)
    assert counts[1] == 0
    kept = [0, 2, 3]
    expected = probabilities[kept] * index.numel()
    assert (
        stats.chisquare(
            counts[kept].numpy(), expected.double().numpy() * (counts.sum().item() / expected.double().sum().item())
        ).pvalue
        > 1e-4
    )


def test_the_frequency_test_would_see_a_wrong_distribution():
    index = draws().categorical(torch.tensor([0.525, 0.475]).expand(50_000, -1), 1)
    counts = torch.bincount(index.flatten(), minlength=2)
    assert stats.chisquare(counts.numpy()).pvalue < 1e-4


def test_samples_of_an_example_are_independent():
    index = draws().categorical(torch.tensor([0.5, 0.5]).expand(50_000, -1), 2)
    table = torch.bincount(index[:, 0] * 2 + index[:, 1], minlength=4).view(2, 2)
    assert stats.chi2_contingency(table.numpy()).pvalue > 1e-4


def test_gumbel_noise_is_gumbel():
    noise = draws().gumbel(torch.empty(50_000, dtype=torch.float64))
    assert stats.kstest(noise.numpy(), "gumbel_r").pvalue > 1e-4
    assert stats.kstest(noise.numpy() * 1.05, "gumbel_r").pvalue < 1e-4


def test_enumeration_visits_dependent_draws_once_each():
    def program(draws):
        first = int(draws.categorical(torch.tensor([[0.5, 0.5]]), 1))
        second = int(draws.categorical(torch.tensor([[0.2, 0.8, 0.0]]), 1)) if first else None
        return first, second

    outcomes = {result: probability for probability, result in enumerate_outcomes(program)}
    assert outcomes == pytest.approx({(0, None): 0.5, (1, 0): 0.1, (1, 1): 0.4})


def test_derived_seeds_are_unrelated_where_plain_ones_are_the_same_stream():
    def stream(seed):
        return torch.rand(50, generator=torch.Generator().manual_seed(seed))

    assert torch.equal(stream(3), stream(3 + 2**32))  # why they are derived
    seeds = [derived_seed(name, seed) for name in ("batches", "estimator") for seed in (0, 1, 2, 3 + 2**32)]
    assert len(set(seeds)) == 8
    assert max(seeds) < 2**32
    for i, left in enumerate(seeds):
        for right in seeds[:i]:
            assert not torch.isin(stream(left), stream(right)).any()


def test_continuous_noise_cannot_be_enumerated():
    with pytest.raises(TypeError, match="continuous"):
        list(enumerate_outcomes(lambda draws: draws.gumbel(torch.zeros(2))))
