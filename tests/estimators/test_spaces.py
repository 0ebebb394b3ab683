"""The kinds of latent behind one protocol, each against brute force over its states."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats

import estimators
from estimators import BitVector, Categorical, Categoricals, RandomDraws, enumerate_outcomes, misfit
from estimators.registry import REGISTRY
from estimators.spaces import MOST_STATES, Incapable, Space
from tests.estimators import oracles

F64 = torch.float64
SPACES = {
    "categorical": Categorical,
    "bit_vector": BitVector,
    "categoricals": lambda scores: Categoricals(scores, 2),
    "categoricals of three": lambda scores: Categoricals(scores, 3),
}


def scores_of(size=4, batch_size=3):
    torch.manual_seed(size)
    return torch.randn(batch_size, size, dtype=F64)


@pytest.fixture(params=SPACES)
def make(request):
    return SPACES[request.param]


@pytest.fixture
def space(make):
    return make(scores_of(6 if make is SPACES["categoricals of three"] else 4))


def test_all_states_are_in_the_order_of_their_codes(space):
    states = space.all_states()
    assert space.code(states).tolist() == [list(range(int(space.states)))] * 3
    vectors = space.vectors(states)
    assert vectors.shape == (3, space.states, space.leaf.shape[1])
    categories = space.categories if isinstance(space, Categoricals) else 0
    np.testing.assert_array_equal(vectors[0], oracles.vectors(space.name, space.leaf.shape[1], categories))
    assert len({tuple(row) for row in vectors[0].tolist()}) == space.states


def test_probabilities_sum_to_one_and_agree_with_everything_else(space):
    q = space.probabilities
    torch.testing.assert_close(q.sum(1), torch.ones(3, dtype=F64))
    torch.testing.assert_close(q, space.log_probability(space.all_states()).exp())
    torch.testing.assert_close(space.entropy(), -(q * q.log()).sum(1))
    mean = (q.unsqueeze(2) * space.vectors(space.all_states())).sum(1)
    torch.testing.assert_close(space.noisy_scores().mean, mean)
    torch.testing.assert_close(space.all_scores, space.score(space.all_states()))
    assert torch.equal(space.code(space.argmax())[:, 0], q.argmax(1))
    shift = space.score(space.all_states()) - q.log()
    torch.testing.assert_close(shift, shift[:, :1].expand_as(shift))
    latents = space.enumerate()
    assert len(latents) == 3 * space.states
    assert torch.equal(latents.value, space.vectors(space.all_states()).flatten(0, 1))


def test_samples_have_the_probabilities(space):
    """By enumeration: the probability of each sampled state is its q."""
    first = space.rebuilt(space.leaf[:1])
    found = torch.zeros(int(first.states), dtype=F64)
    for probability, state in enumerate_outcomes(lambda draws: int(first.code(first.sample(draws, 1)))):
        found[state] += probability
    torch.testing.assert_close(found, first.probabilities[0])


def test_random_samples_have_the_probabilities(space):
    many = space.rebuilt(space.leaf[:1].expand(20_000, -1))
    codes = many.code(many.sample(RandomDraws(torch.Generator().manual_seed(0)), 2)).flatten()
    counts = torch.bincount(codes, minlength=int(many.states)).numpy()
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
@pytest.mark.parametrize(
    ("space", "size"),
    [(BitVector, 10), (lambda scores: Categoricals(scores, 4), 20), (lambda scores: Categoricals(scores, 2), 20)],
    ids=["ten bits", "five of four states", "ten of two states"],
)
def test_the_k_best_states_are_those_of_brute_force(space, size, k, scale):
    space = space(scale * scores_of(size, 5))
    totals = space.score(space.all_states())
    expected = totals.topk(min(k, 1024), 1).values
    best = space.k_best(k)
    torch.testing.assert_close(space.score(best), expected)
    codes = space.code(best)
    assert all(len(set(row)) == min(k, 1024) for row in codes.tolist())


def masked(space):
    """The same kind of latent with some states masked, in one example all but two."""
    scores = space.leaf.clone()
    scores[0, 1] = scores[1, -1] = -torch.inf
    if scores.shape[1] > 3 and not isinstance(space, Categoricals):
        scores[2, 1:-1] = -torch.inf
    return space.rebuilt(scores)


@pytest.mark.parametrize("change", [lambda space: space, masked], ids=["full", "masked"])
@pytest.mark.parametrize("listed", [0, 1, 2, 4])
def test_a_sample_outside_a_set_has_the_conditional_probabilities(space, listed, change):
    """By enumeration, against q over all states less the set."""
    space = change(space)
    for row in range(3):
        one = space.rebuilt(space.leaf[row : row + 1])
        q = one.probabilities[0]
        places = torch.randperm(int(one.states), generator=torch.Generator().manual_seed(row))[:listed]
        states = one.all_states()[:, places]
        rest = q.index_fill(0, places, 0)
        if rest.sum() == 0:
            assert one.sample_outside(RandomDraws(), states)[1].tolist() == [0]
            continue
        found, total = torch.zeros_like(q), 0.0
        for probability, (state, mass) in enumerate_outcomes(
            lambda draws, one=one, states=states: one.sample_outside(draws, states)
        ):
            assert state.shape == (1, 1, *states.shape[2:])
            found[int(one.code(state))] += probability
            torch.testing.assert_close(mass, rest.sum().unsqueeze(0), rtol=1e-9, atol=1e-12)
            total += probability
        assert total == pytest.approx(1)
        torch.testing.assert_close(found, rest / rest.sum(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("change", [lambda space: space, masked], ids=["full", "masked"])
@pytest.mark.parametrize("samples", [1, 2, 3])
def test_distinct_states_are_drawn_one_after_another_in_proportion_to_q(space, samples, change):
    """By enumeration: the probability of each set is the sum over its orders of the products of conditional ones."""
    space = change(space)
    for row in range(3) if change is masked else (0,):
        one = space.rebuilt(space.leaf[row : row + 1])
        q = one.probabilities[0].tolist()
        by_hand: dict = {}
        for order in itertools.permutations([state for state, mass in enumerate(q) if mass > 0], samples):
            probability, left = 1.0, 1.0
            for state in order:
                probability, left = probability * q[state] / left, left - q[state]
            by_hand[frozenset(order)] = by_hand.get(frozenset(order), 0.0) + probability
        if not by_hand:  # fewer states with any mass
            assert not one.without_replacement(RandomDraws(), samples).keep.all()
            continue
        found: dict = {}
        for probability, (states, keep, outside) in enumerate_outcomes(
            lambda draws, one=one: one.without_replacement(draws, samples)
        ):
            assert keep.all()
            chosen = frozenset(one.code(states)[0].tolist())
            assert len(chosen) == samples
            assert float(outside) == pytest.approx(1 - sum(q[state] for state in chosen), abs=1e-12)
            found[chosen] = found.get(chosen, 0.0) + probability
        assert found == pytest.approx(by_hand, rel=1e-9)


def test_all_that_has_mass_is_drawn_where_more_is_asked_for(space):
    poor = masked(space)
    states, keep, outside = poor.without_replacement(RandomDraws(torch.Generator().manual_seed(0)), int(poor.states) + 3)
    assert states.shape[1] == poor.states
    q = poor.probabilities
    assert torch.equal(keep.sum(1), (q > 0).sum(1))
    for row in range(3):
        drawn = poor.code(states)[row][keep[row]].tolist()
        assert sorted(drawn) == (q[row] > 0).nonzero()[:, 0].tolist()
    assert outside.tolist() == [0, 0, 0]


def test_masked_states_are_never_drawn_nor_best(space):
    poor = masked(space)
    draws = RandomDraws(torch.Generator().manual_seed(0))
    q = poor.probabilities
    few = int((q > 0).sum(1).min())
    for states in (poor.sample(draws, 200), poor.argmax(), poor.k_best(few), poor.without_replacement(draws, few).states):
        assert (q.gather(1, poor.code(states)) > 0).all()
    entropy = -torch.where(q > 0, q * torch.where(q > 0, q, 1).log(), 0).sum(1)
    torch.testing.assert_close(poor.entropy(), entropy)


def test_categoricals_by_hand():
    third = math.log(3.0)
    space = Categoricals(torch.tensor([[0.0, third, 0.0, 0.0, 0.0, 0.0]], dtype=F64), 3)
    assert (space.variables, space.categories, space.states) == (2, 3, 9)
    assert space.probabilities[0].tolist() == pytest.approx([1 / 15] * 3 + [3 / 15] * 3 + [1 / 15] * 3)
    assert space.all_states()[0, :5].tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1]]
    assert space.code(torch.tensor([[[2, 1], [0, 2]]])).tolist() == [[7, 2]]
    assert space.vectors(torch.tensor([[[1, 2]]])).tolist() == [[[0, 1, 0, 0, 0, 1]]]
    assert space.argmax().tolist() == [[[1, 0]]]
    entropy = -(0.2 * math.log(0.2) * 2 + 0.6 * math.log(0.6)) + third
    assert float(space.entropy()) == pytest.approx(entropy)
    assert float(space.log_probability(torch.tensor([[[1, 2]]])).exp()) == pytest.approx(0.2)


def test_scores_that_are_not_those_of_several_categoricals_are_refused():
    for categories in (0, 4):
        with pytest.raises(estimators.OptionError, match=f"categories: 6 scores are not those of variables with {categories}"):
            Categoricals(torch.zeros(2, 6), categories)
    scores = torch.zeros(2, 6)
    scores[1, 3:] = -torch.inf
    with pytest.raises(FloatingPointError, match="the scores of example 1 leave a variable without a finite maximum"):
        Categoricals(scores, 3)


def loss(latents):
    """Of vectors ``[N, 4]``, not additive in their parts."""
    weight = torch.tensor([[0.3, -1.0, 2.0, 0.4], [1.0, 0.2, -0.7, 1.1]], dtype=F64)
    return torch.tanh(latents.value @ weight.t()).sum(1) + (latents.value @ weight[0] - 0.3).square()


def estimate_of(name, options, space):
    """Value, entropy and gradients in the space's leaf of an estimate, with draws of its own."""
    torch.manual_seed(0)
    context = torch.ones(space.batch_size, 2)
    made = estimators.build(name, **options)
    estimate = made(space, loss, context=context, generator=torch.Generator().manual_seed(0))
    (slope,) = torch.autograd.grad((estimate.surrogate - 0.3 * estimate.entropy).sum(), space.leaf)
    return estimate.value, estimate.entropy.detach(), estimate.decoder_calls, slope


SERVED = [
    (name, options)
    for name, registered in REGISTRY.items()
    for options in registered.certified
    if not misfit(registered.make(**options), Categorical(torch.zeros(1, 4)))
]


@pytest.mark.parametrize(("name", "options"), SERVED, ids=[str(each) for each in SERVED])
def test_one_variable_of_several_is_a_categorical_to_every_estimator(name, options):
    """With the same draws, but where distinct states are drawn another way; then the outcomes are compared."""
    if {"without_replacement", "sample_outside"} & estimators.build(name, **options).uses:
        assert_same_expectations(name, options, lambda scores: Categoricals(scores, 4))
        return
    scores = scores_of(4, 5).requires_grad_()
    left, right = (estimate_of(name, options, space) for space in (Categorical(scores), Categoricals(scores, 4)))
    for one, other in zip(left, right, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def assert_same_expectations(name, options, space):
    """Mean and second moment of the gradient over all outcomes, of a categorical and of another latent with the same states."""
    moments = []
    for make in (Categorical, space):
        estimator = estimators.build(name, **options)
        torch.manual_seed(0)
        estimator(make(scores_of(4, 1)), loss, context=torch.ones(1, 2))  # gives lazy parameters their sizes
        estimator.eval()

        def program(draws, make=make, estimator=estimator):
            leaf = scores_of(4, 1).requires_grad_()
            proposal = estimator.propose(make(leaf), draws, torch.ones(1, 2))
            return torch.autograd.grad(estimator.combine(proposal, loss(proposal.pairs)).surrogate.sum(), leaf)[0]

        outcomes = list(enumerate_outcomes(program))
        moments.append([sum(probability * slope**power for probability, slope in outcomes) for power in (1, 2)])
    for left, right in zip(*moments, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-9, atol=1e-12)


EXACT = [("dense", {}), ("sparsemax", {}), ("entmax", {}), ("top_k_sparsemax", {"k": 3})]


@pytest.mark.parametrize(("name", "options"), EXACT, ids=[name for name, _ in EXACT])
def test_variables_of_two_states_are_bits_to_exact_estimators(name, options):
    """A bit of score s is a variable of the scores 0 and s, whose one-hot vector has the bit in its second place."""
    scores = scores_of(4, 5).requires_grad_()
    pairs = torch.stack([torch.zeros_like(scores), scores], 2).flatten(1)

    def of_bits(latents):
        return loss(latents)

    def of_pairs(latents):
        return loss(estimators.Latents.ragged_vectors(latents.row, latents.value[:, 1::2], latents.batch_size))

    results = []
    for space, function in ((BitVector(scores), of_bits), (Categoricals(pairs, 2), of_pairs)):
        estimate = estimators.build(name, **options)(space, function)
        (slope,) = torch.autograd.grad((estimate.surrogate + estimate.entropy).sum(), scores, retain_graph=True)
        results.append((estimate.value, estimate.entropy, estimate.decoder_calls, slope))
    for left, right in zip(*results, strict=True):
        torch.testing.assert_close(left, right)


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
    by_hand = oracles.softmax(oracles.bit_states(2) @ np.array([0.0, math.log(3.0)]))
    np.testing.assert_allclose(space.probabilities[0], by_hand)
    assert space.argmax().tolist() == [[[0, 1]]]


TOO_MANY = [
    (BitVector(torch.zeros(2, 17)), r"this bit_vector latent has 2\^17 states"),
    (Categoricals(torch.zeros(2, 33), 3), r"this categoricals latent has about 10\^5 states"),
]


@pytest.mark.parametrize(("space", "words"), TOO_MANY, ids=["bits", "categoricals"])
def test_too_many_states_are_refused_with_the_limit(space, words):
    assert misfit(estimators.build("dense"), space)
    for attempt in (
        space.enumerate,
        lambda: space.probabilities,
        lambda: estimators.build("dense")(space, lambda z: z.value.sum(1)),
        lambda: estimators.build("top_k_sparsemax").probabilities(space),
    ):
        with pytest.raises(ValueError, match=f"({words}), and at most {MOST_STATES:,} are enumerated"):
            attempt()
    with pytest.raises(estimators.OptionError, match=f"name: Dense does not fit: ({words}), and at most"):
        estimators.check_fit(estimators.build("dense"), space)


def test_many_states_are_no_hindrance_where_none_is_enumerated():
    """2^200 and 8^50 states."""
    for space in (BitVector(scores_of(200, 2)), Categoricals(scores_of(400, 2), 8)):
        assert len({tuple(state.flatten().tolist()) for state in space.k_best(20)[0]}) == 20
        states, keep, outside = space.without_replacement(RandomDraws(torch.Generator().manual_seed(0)), 4)
        assert keep.all()
        assert (outside > 0.9).all()
        assert len({tuple(state.flatten().tolist()) for state in states[0]}) == 4
        assert torch.isfinite(space.log_probability(states)).all()


def test_scores_of_bits_may_all_be_off_but_not_infinite():
    assert BitVector(torch.full((1, 3), -torch.inf)).entropy().tolist() == [0]
    with pytest.raises(FloatingPointError, match="example 1"):
        BitVector(torch.tensor([[0.0], [torch.inf]]))
    with pytest.raises(FloatingPointError, match="example 0"):
        Categorical(torch.tensor([[0.0, torch.nan]]))


class Nothing(Space):
    """A latent that can do nothing."""

    name = "unknown"
    batch_size, dtype, device = 1, F64, torch.device("cpu")

    @property
    def leaf(self):
        return torch.zeros(1, 1)

    def rebuilt(self, leaf):
        return self

    def select(self, states, keep=None):
        return estimators.Latents.regular_vectors(states)


def test_what_a_space_cannot_do_is_told_by_name():
    space, draws, states = Nothing(), RandomDraws(), torch.zeros(1, 1, 1)
    assert space.lacks("all_states") == "a unknown latent cannot enumerate its states"
    calls = {
        "sample": (draws, 1),
        "log_probability": (states,),
        "entropy": (),
        "score": (states,),
        "argmax": (),
        "k_best": (1,),
        "without_replacement": (draws, 1),
        "sample_outside": (draws, states),
        "all_states": (),
        "noisy_scores": (),
        "reparameterize": (draws, 1),
        "bit_scores": (),
    }
    assert set(calls) == set(estimators.spaces.CAPABILITIES)
    for capability, arguments in calls.items():
        with pytest.raises(Incapable) as caught:
            getattr(space, capability)(*arguments)
        assert str(caught.value) == space.lacks(capability)
    assert misfit(estimators.build("arms"), Categorical(torch.zeros(1, 3))).startswith("a categorical latent cannot")
