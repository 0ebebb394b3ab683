"""Distributions of the estimators against oracles from their definitions, and gradcheck through every one."""

import numpy as np
import pytest
import torch

import estimators
from estimators import BitVector, Categorical, Categoricals, RandomDraws, SparseMAP, misfit
from estimators.mappings import alpha_entmax, fenchel_young_loss, tsallis_entropy
from estimators.options import label
from tests.estimators import oracles

F64 = torch.float64
SCORES = torch.tensor([[0.1, 0.45, -0.3, 0.2], [2.0, 0.1, -1.3, 1.6], [0.62, 0.31, 0.93, -0.08]], dtype=F64)

SPACES = {"categorical": Categorical, "bit_vector": BitVector, "categoricals": lambda scores: Categoricals(scores, 2)}

# Distributions that are not the softmax of the states' scores, from those to probabilities.
OWN = {
    "sparsemax": [({}, lambda s: oracles.entmax(s, 2)[0])],
    "bounded_sparse": [({}, lambda s: oracles.entmax(s, 2)[0])],
    "entmax": [
        ({}, lambda s: oracles.entmax(s, 1.5)[0]),
        ({"alpha": 1.2}, lambda s: oracles.entmax(s, 1.2)[0]),
        ({"alpha": 1.7, "learned": True}, lambda s: oracles.entmax(s, 1.7)[0]),
    ],
    "top_k_sparsemax": [({"k": k}, lambda s, k=k: oracles.top_k(s, k)) for k in (2, 3)],
    "sparse_map": [],  # its marginals, below
}
DISTRIBUTIONS = {
    f"{label(name, options)} of {latent}": (name, options, latent, oracle)
    for name in estimators.ESTIMATORS
    for options, oracle in OWN.get(name, [({}, oracles.softmax)])
    for latent in SPACES
    if not misfit(estimators.build(name, **options), SPACES[latent](SCORES))
}


@pytest.mark.parametrize("case", DISTRIBUTIONS)
def test_probabilities_are_those_of_the_definition(case):
    name, options, latent, oracle = DISTRIBUTIONS[case]
    found = estimators.build(name, **options).probabilities(SPACES[latent](SCORES))
    states = oracles.vectors(latent, 4, 2)
    expected = np.stack([oracle(states @ row) for row in SCORES.numpy()])
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-9, atol=1e-12)


def test_every_estimator_has_its_distribution_checked():
    names = {name for name, *_ in DISTRIBUTIONS.values()} | {"sparse_map"}
    assert names == set(estimators.ESTIMATORS)
    assert {latent for _, _, latent, _ in DISTRIBUTIONS.values()} == set(SPACES)


@pytest.mark.parametrize("alpha", [1, 1.3, 1.5, 2])
def test_the_jacobian_of_entmax_is_that_of_the_definition(alpha):
    name, options = ("dense", {}) if alpha == 1 else ("entmax", {"alpha": float(alpha)})
    estimator = estimators.build(name, **options)
    for row in SCORES:
        found = torch.autograd.functional.jacobian(lambda s: estimator.probabilities(Categorical(s.unsqueeze(0)))[0], row)
        np.testing.assert_allclose(found.numpy(), oracles.entmax(row.numpy(), alpha)[1], rtol=1e-8, atol=1e-9)


GRADCHECKED = {
    **{case: given[:3] for case, given in DISTRIBUTIONS.items()},
    **{f"sparse_map budget={budget}": ("sparse_map", {"budget": budget}, "bit_vector") for budget in (None, 1, 2, 3)},
}


@pytest.mark.parametrize("case", GRADCHECKED)
def test_gradcheck_through_every_distribution_and_its_entropy(case):
    name, options, latent = GRADCHECKED[case]
    estimator, space = estimators.build(name, **options), SPACES[latent]
    scores = SCORES.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda s: estimator.probabilities(space(s)), scores)
    draws = lambda: RandomDraws(torch.Generator().manual_seed(0))  # noqa: E731
    assert torch.autograd.gradcheck(lambda s: estimator.propose(space(s), draws()).entropy, scores)


@pytest.mark.parametrize("alpha", [1.05, 1.3, 1.5, 1.9])
def test_gradcheck_through_alpha(alpha):
    scores = SCORES.clone().requires_grad_()
    exponent = torch.tensor(alpha, dtype=F64, requires_grad=True)
    assert torch.autograd.gradcheck(alpha_entmax, (scores, exponent), atol=1e-6)
    torch.testing.assert_close(alpha_entmax(scores, exponent), alpha_entmax(scores, alpha), rtol=1e-9, atol=1e-12)


def test_gradcheck_through_the_learned_parameter():
    estimator = estimators.build("entmax", learned=True, alpha=1.4)
    losses = torch.linspace(-1, 2, SCORES.numel(), dtype=F64)

    def value(log_odds):
        estimator.log_odds.data.copy_(log_odds.detach())
        surrogate = estimator(SCORES, lambda z: losses[z.row * 4 + z.index]).surrogate.sum()
        (slope,) = torch.autograd.grad(surrogate, estimator.log_odds)
        return float(surrogate.detach()), float(slope)

    start = estimator.log_odds.detach().clone()
    step = 1e-4
    expected = (value(start + step)[0] - value(start - step)[0]) / (2 * step)
    assert value(start)[1] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("budget", [1, 2, 3, 5])
def test_sparse_map_marginals_are_the_projection(budget, seed):
    torch.manual_seed(seed)
    scores = torch.randn(4, 5, dtype=F64) * 1.5
    found = SparseMAP(budget=budget).marginals(BitVector(scores))
    expected = np.stack([oracles.sparse_map_marginals(row, budget) for row in scores.numpy()])
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-6)
    assert (found.sum(1) <= budget + 1e-12).all()


def test_sparse_map_marginals_without_a_budget_are_clipped():
    torch.testing.assert_close(SparseMAP().marginals(BitVector(SCORES)), ((SCORES + 1) / 2).clamp(0, 1))


@pytest.mark.parametrize("dtype", [F64, torch.float32])
@pytest.mark.parametrize("budget", [None, 1, 3, 8, 16])
@pytest.mark.parametrize("scale", [0.0, 0.3, 1.0, 5.0])
def test_sparse_map_states_have_the_marginals_and_respect_the_budget(scale, budget, dtype):
    torch.manual_seed(0)
    scores = (scale * torch.randn(50, 16)).to(dtype)
    scores[0] = 0.25  # ties
    scores[1] = -torch.inf
    scores[2] = 7.0
    estimator = SparseMAP(budget=budget)
    proposal = estimator.propose(BitVector(scores), RandomDraws())
    latents, weights = proposal.pairs, proposal.weights
    precise = {"rtol": 0, "atol": 1e-6 if dtype == torch.float32 else 1e-11}
    assert (weights > 0).all()
    assert ((latents.value == 0) | (latents.value == 1)).all()
    torch.testing.assert_close(latents.sum(weights), torch.ones(50, dtype=dtype), **precise)
    marginals = latents.pad(weights.unsqueeze(1) * latents.value).sum(1)
    torch.testing.assert_close(marginals, estimator.marginals(BitVector(scores)), **precise)
    assert int(latents.counts.max()) <= 17
    if budget is not None:
        assert int(latents.value.sum(1).max()) <= budget


def test_sparse_map_with_a_budget_of_all_bits_is_sparse_map():
    torch.manual_seed(0)
    scores = torch.randn(20, 6, dtype=F64, requires_grad=True)
    results = []
    for budget in (None, 6, 9):
        proposal = SparseMAP(budget=budget).propose(BitVector(scores), RandomDraws())
        gradient = torch.autograd.grad((proposal.weights * torch.arange(len(proposal))).sum(), scores)[0]
        results.append((proposal.pairs.row, proposal.pairs.value, proposal.weights, proposal.entropy, gradient))
    for other in results[1:]:
        for left, right in zip(results[0], other, strict=True):
            assert torch.equal(left, right)


def test_sparse_map_states_are_nested_where_the_budget_allows():
    scores = torch.tensor([[0.6, -0.2, 0.2, -3.0]], dtype=F64)  # marginals 0.8, 0.4, 0.6, 0
    for budget in (None, 3):
        proposal = SparseMAP(budget=budget).propose(BitVector(scores), RandomDraws())
        states = proposal.pairs.value.to(torch.int64).tolist()
        assert states == [[1, 1, 1, 0], [1, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
        assert proposal.weights.tolist() == pytest.approx([0.4, 0.2, 0.2, 0.2])


@pytest.mark.parametrize("scale", [1e3, 1e6, 1e17, 1e30])
@pytest.mark.parametrize("dtype", [F64, torch.float32])
def test_a_budget_holds_however_large_the_scores(dtype, scale):
    torch.manual_seed(0)
    scores = (scale * torch.randn(200, 12)).to(dtype)
    scores[0] = scale
    for budget in (1, 2, 3, 5):
        proposal = SparseMAP(budget=budget).propose(BitVector(scores), RandomDraws())
        assert int(proposal.pairs.value.sum(1).max()) <= budget
        total = proposal.pairs.sum(proposal.weights)
        torch.testing.assert_close(total, torch.ones(200, dtype=dtype), rtol=0, atol=1e-6)


FENCHEL_YOUNG = {
    "dense": {},
    "sparsemax": {},
    "entmax": {"alpha": 1.3},
    "top_k_sparsemax": {"k": 2},
    "bounded_sparse": {"budget": 2},
}


@pytest.mark.parametrize("name", FENCHEL_YOUNG)
def test_the_gradient_of_the_fenchel_young_loss_is_q_less_the_label(name):
    estimator = estimators.build(name, **FENCHEL_YOUNG[name])
    target = torch.tensor([2, 3, 0])

    def loss(scores):
        return fenchel_young_loss(scores, estimator.probabilities(Categorical(scores)), target, estimator.regulariser)

    scores = SCORES.clone().requires_grad_()
    assert (loss(scores) > 0).all()
    (slope,) = torch.autograd.grad(loss(scores).sum(), scores)
    assert torch.allclose(slope, estimator.probabilities(Categorical(scores)) - torch.eye(4, dtype=F64)[target])
    assert torch.autograd.gradcheck(loss, scores)  # of the value itself, not of what it was made to look like
    certain = 50 * torch.eye(4, dtype=F64)[target]
    assert torch.allclose(loss(certain), torch.zeros(3, dtype=F64), atol=1e-12)


def test_fenchel_young_losses_are_the_known_ones():
    """Cross-entropy for softmax; for sparsemax, half the squared distances that Martins and Astudillo (2016) have."""
    target = torch.tensor([2, 3, 0])
    dense, sparse = estimators.build("dense"), estimators.build("sparsemax")
    found = fenchel_young_loss(SCORES, dense.probabilities(Categorical(SCORES)), target, dense.regulariser)
    assert torch.allclose(found, torch.nn.functional.cross_entropy(SCORES, target, reduction="none"))
    q = sparse.probabilities(Categorical(SCORES))
    found = fenchel_young_loss(SCORES, q, target, sparse.regulariser)
    onehot = torch.eye(4, dtype=F64)[target]
    wanted = ((onehot - SCORES).square().sum(1) - (q - SCORES).square().sum(1)) / 2
    assert torch.allclose(found, wanted)


def test_the_fenchel_young_loss_knows_a_learned_alpha_and_masked_states():
    estimator = estimators.build("entmax", alpha=1.5, learned=True)
    target = torch.tensor([2, 3, 0])

    def loss(log_odds):
        alpha = 1.01 + 0.99 * torch.sigmoid(log_odds)
        return fenchel_young_loss(SCORES, alpha_entmax(SCORES, alpha), target, lambda q: tsallis_entropy(q, alpha)).sum()

    found = fenchel_young_loss(SCORES, estimator.probabilities(Categorical(SCORES)), target, estimator.regulariser).sum()
    (slope,) = torch.autograd.grad(found, estimator.log_odds)
    step = 1e-5
    center = estimator.log_odds.detach()
    assert float(slope) == pytest.approx(float(loss(center + step) - loss(center - step)) / (2 * step), rel=1e-6)
    masked = torch.cat([SCORES, torch.full((3, 1), -torch.inf, dtype=F64)], 1)
    for name in ("dense", "sparsemax"):
        each = estimators.build(name)
        plain = fenchel_young_loss(SCORES, each.probabilities(Categorical(SCORES)), target, each.regulariser)
        assert torch.allclose(
            fenchel_young_loss(masked, each.probabilities(Categorical(masked)), target, each.regulariser), plain
        )
