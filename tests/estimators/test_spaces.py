"""The two spaces behind one protocol."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

import estimators
from estimators import SPACES, BitVector, Categorical, RandomDraws, enumerate_outcomes
from estimators.spaces import MOST_STATES
from tests.estimators import oracles

F64 = torch.float64


def scores_of(size=4, batch_size=3):
    torch.manual_seed(size)
    return torch.randn(batch_size, size, dtype=F64)


@pytest.fixture(params=SPACES)
def space(request):
    return SPACES[request.param](scores_of())


def test_all_states_are_in_the_order_of_their_codes(space):
    states = space.all_states()
    assert space.code(states).tolist() == [list(range(space.states))] * 3
    vectors = space.vectors(states)
    assert vectors.shape == (3, space.states, 4)
    assert len({tuple(row) for row in vectors[0].tolist()}) == space.states


def test_probabilities_sum_to_one_and_agree_with_everything_else(space):
    q = space.probabilities
    torch.testing.assert_close(q.sum(1), torch.ones(3, dtype=F64))
    torch.testing.assert_close(q, space.log_probability(space.all_states()).exp())
    torch.testing.assert_close(space.entropy(), -(q * q.log()).sum(1))
    torch.testing.assert_close(space.mean, (q.unsqueeze(2) * space.vectors(space.all_states())).sum(1))
    assert torch.equal(space.code(space.argmax())[:, 0], q.argmax(1))
    shift = space.score(space.all_states()) - q.log()
    torch.testing.assert_close(shift, shift[:, :1].expand_as(shift))
    latents = space.enumerate()
    assert len(latents) == 3 * space.states
    assert torch.equal(latents.value, space.vectors(space.all_states()).flatten(0, 1))


def test_samples_have_the_probabilities(space):
    """By enumeration: the probability of each sampled state is its q."""
    first = type(space)(space.scores[:1])
    found = torch.zeros(first.states, dtype=F64)
    for probability, state in enumerate_outcomes(lambda draws: int(first.code(first.sample(draws, 1)))):
        found[state] += probability
    torch.testing.assert_close(found, first.probabilities[0])


def test_random_samples_have_the_probabilities(space):
    many = type(space)(space.scores[:1].expand(20_000, -1))
    codes = many.code(many.sample(RandomDraws(torch.Generator().manual_seed(0)), 2)).flatten()
    counts = torch.bincount(codes, minlength=many.states).numpy()
    assert stats.chisquare(counts, many.probabilities[0].numpy() * counts.sum()).pvalue > 1e-4


def test_select_keeps_pairs_in_order(space):
    states = space.k_best(3)
    keep = torch.tensor([[True, False, True], [True, True, True], [False, True, False]])
    latents = space.select(states, keep)
    assert latents.row.tolist() == [0, 0, 1, 1, 1, 2]
    assert torch.equal(latents.value, space.vectors(states)[keep])
    assert torch.equal(space.select(states).value, space.vectors(states).flatten(0, 1))


def test_scatter_is_the_inverse_of_selection(space):
    states = space.k_best(2)
    weights = torch.tensor([[0.7, 0.3]] * 3, dtype=F64)
    full = space.scatter(states, weights)
    assert full.shape == (3, space.states)
    torch.testing.assert_close(full.gather(1, space.code(states)), weights)
    torch.testing.assert_close(full.sum(1), torch.ones(3, dtype=F64))


@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("k", [1, 2, 7, 10, 33, 1024, 5000])
def test_k_best_bit_vectors_are_those_of_brute_force(k, scale):
    space = BitVector(scale * scores_of(10, 5))
    totals = space.score(space.all_states())
    expected = totals.topk(min(k, 1024), 1).values
    best = space.k_best(k)
    torch.testing.assert_close(space.score(best), expected)
    codes = space.code(best)
    assert all(len(set(row)) == min(k, 1024) for row in codes.tolist())


def test_k_best_bit_vectors_with_ties_and_bits_that_are_off():
    scores = torch.tensor([[0.0, 0.0, 0.0], [1.0, -torch.inf, 1.0]], dtype=F64)
    space = BitVector(scores)
    best = space.k_best(4)
    assert sorted(space.code(best)[0].tolist())[0] >= 0
    assert len(set(space.code(best)[0].tolist())) == 4
    assert space.score(best)[0].tolist() == [0, 0, 0, 0]
    assert space.score(best)[1].tolist() == [2, 1, 1, 0]
    assert best[1, :, 1].abs().max() == 0


def test_log_probabilities_and_entropies_of_extreme_bits_are_finite():
    """Probabilities that reach 0 and 1 in single precision."""
    scores = torch.tensor([[200.0, -200.0, 30.0, 0.0]], requires_grad=True)
    space = BitVector(scores)
    log_q = space.log_probability(torch.tensor([[[1.0, 0.0, 1.0, 1.0], [0.0, 1.0, 0.0, 0.0]]]))
    assert log_q[0].tolist() == pytest.approx([-math.log(2), -430 - math.log(2)])
    entropy = space.entropy()
    assert entropy.item() == pytest.approx(math.log(2) + 31 * math.exp(-30), rel=1e-6)
    (gradient,) = torch.autograd.grad(log_q.sum() + entropy.sum(), scores)
    assert torch.isfinite(gradient).all()


def test_bit_vectors_by_hand():
    space = BitVector(torch.tensor([[0.0, math.log(3.0)]], dtype=F64))
    assert space.mean[0].tolist() == pytest.approx([0.5, 0.75])
    assert space.probabilities[0].tolist() == pytest.approx([0.125, 0.375, 0.125, 0.375])
    np.testing.assert_allclose(space.probabilities[0], oracles.bernoulli(np.array([0.0, math.log(3.0)])))
    assert space.argmax().tolist() == [[[0, 1]]]


def test_too_many_bits_are_refused_with_the_limit():
    scores = torch.zeros(2, 17)
    for attempt in (
        lambda: BitVector(scores).enumerate(),
        lambda: estimators.build("dense", space="bit_vector")(scores, lambda z: z.value.sum(1)),
        lambda: estimators.build("sparse_map").probabilities(scores),
        lambda: estimators.build("top_k_sparsemax", space="bit_vector").probabilities(scores),
    ):
        with pytest.raises(ValueError, match=rf"17 bits have 2\^17 states; no more than {MOST_STATES:,}"):
            attempt()


def test_scores_of_bits_may_all_be_off_but_not_infinite():
    assert BitVector(torch.full((1, 3), -torch.inf)).entropy().tolist() == [0]
    with pytest.raises(FloatingPointError, match="example 1"):
        BitVector(torch.tensor([[0.0], [torch.inf]]))
    with pytest.raises(FloatingPointError, match="example 0"):
        Categorical(torch.tensor([[0.0, torch.nan]]))


def test_a_space_that_is_not_there_is_refused_by_name():
    for name in ("dense", "score_function", "vimco", "straight_through", "top_k_sparsemax"):
        with pytest.raises(estimators.OptionError, match="space: must be one of categorical, bit_vector, got 'bits'"):
            estimators.build(name, space="bits")
