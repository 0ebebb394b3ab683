"""Random draws follow their distributions; enumerated ones visit every outcome once."""

import itertools

import pytest
import torch
from scipy import stats

from estimators import RandomDraws, derived_seed, enumerate_outcomes
from estimators.algorithms.arms import disagreement
from estimators.draws import pattern_probabilities


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


@pytest.mark.parametrize("noise", ["gumbel", "logistic"])
def test_continuous_noise_cannot_be_enumerated(noise):
    with pytest.raises(TypeError, match="continuous"):
        list(enumerate_outcomes(lambda draws: getattr(draws, noise)(torch.zeros(2))))


def test_logistic_noise_is_logistic():
    noise = draws().logistic(torch.empty(50_000, dtype=torch.float64))
    assert stats.kstest(noise.numpy(), "logistic").pvalue > 1e-4
    assert stats.kstest(noise.numpy() * 1.05, "logistic").pvalue < 1e-4


P = torch.tensor([0.0, 0.03, 0.3, 0.5, 0.8, 1.0], dtype=torch.float64)


def test_bernoulli_draws_have_the_given_frequencies():
    bits = draws().bernoulli(P.expand(40_000, -1))
    error = (P * (1 - P) / 40_000).sqrt().clamp(min=1e-12)
    assert ((bits.mean(0) - P).abs() / error).max() < 4.5
    found = dict.fromkeys(["".join(f"{n:02b}") for n in range(4)], 0.0)
    for probability, bits in enumerate_outcomes(lambda draws: draws.bernoulli(torch.tensor([0.2, 0.9]))):
        found["".join(str(int(bit)) for bit in bits)] += probability
    assert found == pytest.approx({"00": 0.08, "01": 0.72, "10": 0.02, "11": 0.18}, rel=1e-6)


@pytest.mark.parametrize("samples", [2, 3, 5])
def test_antithetic_patterns_are_those_of_the_copula(samples):
    """The closed form of the enumeration against random draws; marginals against the given probabilities."""
    patterns = torch.tensor(list(itertools.product((0, 1), repeat=samples)), dtype=torch.float64)
    bits = draws().antithetic_bits(P.expand(40_000, -1), samples)
    codes = (bits * 2 ** torch.arange(samples - 1, -1, -1).view(1, -1, 1)).sum(1).long()
    for d, p in enumerate(P.tolist()):
        expected = torch.tensor(pattern_probabilities(p, samples), dtype=torch.float64)
        assert float(expected.sum()) == pytest.approx(1, abs=1e-12)
        torch.testing.assert_close(expected @ patterns, torch.full((samples,), p, dtype=torch.float64))
        counts = torch.bincount(codes[:, d], minlength=len(patterns)).double()
        possible = expected > 0
        assert counts[~possible].sum() == 0
        if possible.sum() > 1:
            assert stats.chisquare(counts[possible], expected[possible] * 40_000).pvalue > 1e-4


def test_two_antithetic_samples_use_a_uniform_and_its_complement():
    assert pattern_probabilities(0.3, 2) == pytest.approx([0.4, 0.3, 0.3, 0.0])
    assert pattern_probabilities(0.8, 2) == pytest.approx([0.0, 0.2, 0.2, 0.6])


def test_antithetic_samples_disagree_more_often_than_independent_ones():
    for samples in (2, 3, 4):
        probabilities = pattern_probabilities(0.4, samples)
        patterns = list(itertools.product((0, 1), repeat=samples))
        differ = sum(probability for probability, bits in zip(probabilities, patterns, strict=True) if bits[:2] == (1, 0))
        assert differ > 0.4 * 0.6
        assert differ == pytest.approx(float(disagreement(torch.logit(torch.tensor([[0.4]], dtype=torch.float64)), samples)))


def test_disagreement_is_precise_for_rare_and_for_certain_bits():
    scores = torch.tensor([[-30.0, -12.0, 12.0, 30.0]])
    for samples in (2, 4):
        precise = disagreement(scores.double(), samples)
        torch.testing.assert_close(disagreement(scores, samples).double(), precise, rtol=1e-5, atol=0)
    p = torch.sigmoid(scores.double())
    torch.testing.assert_close(disagreement(scores.double(), 2), torch.minimum(p, torch.sigmoid(-scores.double())))


def test_draws_without_replacement_are_sequential():
    probabilities = torch.tensor([0.5, 0.0, 0.3, 0.2], dtype=torch.float64)
    expected = {}
    for probability, sequence in enumerate_outcomes(lambda draws: draws.without_replacement(probabilities.unsqueeze(0), 2)):
        expected[tuple(sequence[0].tolist())] = probability
    by_hand = {(a, b): probabilities[a] * probabilities[b] / (1 - probabilities[a]) for a, b in expected}
    assert len(expected) == 6
    assert expected == pytest.approx({key: float(value) for key, value in by_hand.items()})
    index = draws().without_replacement(probabilities.expand(50_000, -1), 2)
    counts = {pair: int(((index[:, 0] == pair[0]) & (index[:, 1] == pair[1])).sum()) for pair in expected}
    assert sum(counts.values()) == 50_000
    assert stats.chisquare(list(counts.values()), [50_000 * p for p in expected.values()]).pvalue > 1e-4


def test_draws_without_replacement_go_on_with_states_of_no_probability():
    row = torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64)
    assert draws().without_replacement(row, 3)[0, 0] == 1
    ((probability, sequence),) = enumerate_outcomes(lambda draws: draws.without_replacement(row, 3))
    assert probability == 1
    assert sequence.tolist() == [[1, 0, 2]]
