"""Bounded sparse marginalization where its budget binds."""

import pytest
import torch

import estimators
from estimators import Categorical, RandomDraws, enumerate_outcomes
from estimators.mappings import alpha_entmax

F64 = torch.float64
SCORES = torch.tensor([[0.1, 0.25, -0.05, 0.2, 0.02, -9.0]], dtype=F64)  # five states have mass


def outcomes(estimator, loss):
    """Probability, encoder gradient, weights by state, and decoder calls, of every outcome."""

    def program(draws):
        scores = SCORES.clone().requires_grad_()
        proposal = estimator.propose(Categorical(scores), draws)
        estimate = estimator.combine(proposal, loss[proposal.pairs.index])
        weights = torch.zeros(6, dtype=F64).index_add(0, proposal.pairs.index, estimate.weights)
        return torch.autograd.grad(estimate.surrogate.sum(), scores)[0], weights, int(estimate.decoder_calls)

    return list(enumerate_outcomes(program))


@pytest.mark.parametrize(("budget", "summed"), [(2, 0), (3, 0), (3, 1), (4, 0), (4, 1), (4, 2)])
def test_both_gradients_are_unbiased_and_the_budget_is_never_exceeded(budget, summed):
    loss = torch.tensor([3.0, -1.0, 4.0, 1.0, -5.0, 9.0], dtype=F64)
    found = outcomes(estimators.build("bounded_sparse", budget=budget, summed=summed), loss)
    assert {calls for _, (_, _, calls) in found} == {budget}
    scores = SCORES.clone().requires_grad_()
    q = alpha_entmax(scores, 2.0)
    exact = torch.autograd.grad((q * loss).sum(), scores)[0]
    mean = sum(probability * gradient for probability, (gradient, _, _) in found)
    torch.testing.assert_close(mean, exact, rtol=1e-12, atol=1e-12)
    weights = sum(probability * weights for probability, (_, weights, _) in found)
    torch.testing.assert_close(weights, q.detach()[0], rtol=1e-12, atol=1e-12)


def test_the_heaviest_states_are_always_decoded():
    found = outcomes(estimators.build("bounded_sparse", budget=4, summed=2), torch.zeros(6, dtype=F64))
    q = alpha_entmax(SCORES, 2.0)[0]
    for _, (_, weights, _) in found:
        assert weights[1] == q[1]
        assert weights[3] == q[3]


def test_variance_falls_with_the_budget_and_a_constant_adds_none():
    loss = torch.tensor([3.0, -1.0, 4.0, 1.0, -5.0, 9.0], dtype=F64)

    def variance(budget, loss):
        found = outcomes(estimators.build("bounded_sparse", budget=budget, summed=0), loss)
        mean = sum(probability * gradient for probability, (gradient, _, _) in found)
        return float(sum(probability * (gradient - mean).square().sum() for probability, (gradient, _, _) in found))

    variances = [variance(budget, loss) for budget in (2, 3, 4)]
    assert variances == sorted(variances, reverse=True)
    assert variance(3, loss + 100) == pytest.approx(variances[1])


def test_examples_that_fit_are_exact_beside_those_that_do_not():
    scores = torch.tensor([[0.1, 0.2, 0.15, 0.0], [5.0, 0.0, 0.0, 0.0], [1.0, 0.8, -5.0, -5.0]], dtype=F64)
    proposal = estimators.build("bounded_sparse", budget=2, summed=0).propose(Categorical(scores), RandomDraws())
    assert proposal.pairs.counts.tolist() == [2, 1, 2]
    assert proposal.metrics["beyond_budget"].tolist() == [1, 0, 0]
    assert proposal.metrics["support"].tolist() == [4, 1, 2]
    assert proposal.pairs.pad(proposal.weights)[1:].tolist() == [[1, 0], pytest.approx([0.6, 0.4])]
