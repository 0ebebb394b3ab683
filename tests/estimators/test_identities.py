"""Agreement between estimators, and hand-computed values."""

import entmax
import pytest
import torch

import estimators
from estimators import Categorical, LatentLinear, Latents, RandomDraws, dot_products, enumerate_outcomes
from tests.estimators.certificate import FLAT, PEAKED, Problem, certify

F64 = torch.float64


def run(name, problem, scores=None, **options):
    estimator = estimators.build(name, **options)
    return estimator(problem.scores() if scores is None else scores, problem.loss_function)


def test_entmax_with_alpha_two_is_sparsemax():
    problem = Problem(PEAKED, batch_size=6, states=7)
    left, right = run("entmax", problem, alpha=2.0), run("sparsemax", problem)
    torch.testing.assert_close(problem.gradients(left.surrogate.mean()), problem.gradients(right.surrogate.mean()))


@pytest.mark.parametrize("alpha", [1.5, 2.0])
def test_entmax_by_sorting_and_by_bisection_agree(alpha):
    torch.manual_seed(0)
    scores = torch.randn(20, 9, dtype=F64)
    found = estimators.build("entmax", alpha=alpha).probabilities(scores)
    torch.testing.assert_close(found, entmax.entmax_bisect(scores, alpha, dim=1), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("alpha", [1.1, 1.3, 1.5, 2.0])
def test_entmax_of_large_single_precision_scores_is_precise(alpha):
    torch.manual_seed(0)
    scores = 1e4 + torch.randn(20, 9).mul(64).round().div(64)  # exact in single precision
    found = estimators.build("entmax", alpha=alpha).probabilities(scores)
    precise = estimators.build("entmax", alpha=alpha).probabilities(scores.double())
    torch.testing.assert_close(found.double(), precise, rtol=0, atol=1e-5)


@pytest.mark.parametrize("alpha", [1.001, 1.5, 2.0])
def test_entmax_is_finite_at_the_ends_of_its_range(alpha):
    scores = torch.tensor([[0.0, 1.0, 2.0, -1e4], [0.0, 0.0, 0.0, 0.0]], dtype=F64, requires_grad=True)
    q = estimators.build("entmax", alpha=alpha).probabilities(scores)
    (gradient,) = torch.autograd.grad((q * torch.arange(4)).sum(), scores)
    assert torch.isfinite(gradient).all()
    torch.testing.assert_close(q.sum(1), torch.ones(2, dtype=F64))


def test_entmax_near_one_approaches_softmax():
    scores = torch.randn(5, 4, dtype=F64, generator=torch.Generator().manual_seed(0))
    q = estimators.build("entmax", alpha=1.0001).probabilities(scores)
    torch.testing.assert_close(q, scores.softmax(1), rtol=0, atol=1e-3)


@pytest.mark.parametrize("alpha", [1.000001, 1.00001, 1.001])
def test_entmax_near_one_is_precise_in_single_precision(alpha):
    scores = torch.randn(5, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    weight = torch.arange(8.0)
    q = estimators.build("entmax", alpha=alpha).probabilities(scores)
    torch.testing.assert_close(q, scores.softmax(1), rtol=0, atol=2e-3)
    (found,) = torch.autograd.grad((q @ weight).sum(), scores)
    (expected,) = torch.autograd.grad((scores.softmax(1) @ weight).sum(), scores)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-2)


@pytest.mark.parametrize("name", ["sparsemax", "entmax"])
def test_gradcheck_through_sparse_probabilities(name):
    scores = torch.tensor([[0.1, 0.45, -0.3, 0.2], [2.0, 0.1, -1.0, 1.6]], dtype=F64, requires_grad=True)
    assert torch.autograd.gradcheck(estimators.build(name).probabilities, scores)


@pytest.mark.parametrize("name", ["dense", "sparsemax", "entmax"])
def test_gradcheck_through_the_entropy(name):
    scores = torch.tensor([[0.1, 0.45, -0.3, 0.2], [2.0, 0.1, -1.0, 1.6]], dtype=F64, requires_grad=True)
    estimator = estimators.build(name)
    assert torch.autograd.gradcheck(lambda s: estimator.propose(s, RandomDraws()).entropy, scores)


def test_sparsemax_by_hand():
    scores = torch.tensor([[0.5, 0.2, -1.0], [3.0, 0.0, 0.0]])
    estimator = estimators.build("sparsemax")
    proposal = estimator.propose(scores, RandomDraws())
    assert proposal.latents.row.tolist() == [0, 0, 1]
    assert proposal.latents.index.tolist() == [0, 1, 0]
    assert proposal.weights.tolist() == pytest.approx([0.65, 0.35, 1.0])
    estimate = estimator.combine(proposal, torch.tensor([1.0, 3.0, 7.0]))
    assert estimate.value.tolist() == pytest.approx([0.65 + 1.05, 7.0])
    assert estimate.decoder_calls.tolist() == [2, 1]


def test_dense_by_hand():
    scores = torch.tensor([[0.0, 0.0], [torch.log(torch.tensor(3.0)), 0.0]])
    estimate = estimators.build("dense")(scores, lambda latents: torch.tensor([1.0, 3.0, 4.0, 8.0]))
    assert estimate.value.tolist() == pytest.approx([2.0, 5.0])
    assert estimate.decoder_calls.tolist() == [2, 2]


def test_with_one_state_every_estimator_is_the_plain_loss():
    problem = Problem(FLAT, states=1)
    for name in estimators.ESTIMATORS:
        estimate = run(name, problem)
        plain = problem.loss_function(Latents.regular(torch.zeros(2, 1, dtype=torch.int64), 1, F64))
        torch.testing.assert_close(estimate.value, plain.detach())
        torch.testing.assert_close(problem.gradients(estimate.surrogate.sum()), problem.gradients(plain.sum()))


def test_marginalization_is_the_expectation_of_the_score_function():
    problem = Problem(FLAT)
    gradient = problem.gradients(run("dense", problem).surrogate.mean())
    estimator = estimators.build("score_function")

    def program(draws):
        proposal = estimator.propose(problem.scores(), draws)
        estimate = estimator.combine(proposal, problem.loss_function(proposal.latents))
        return problem.gradients(estimate.surrogate.mean())

    expected = sum(probability * gradient for probability, gradient in enumerate_outcomes(program))
    torch.testing.assert_close(expected, gradient)


def test_leave_one_out_does_not_notice_a_constant():
    problem = Problem(FLAT)
    estimator = estimators.build("score_function", samples=2, baseline="leave_one_out")

    def gradient(constant):
        generator = torch.Generator().manual_seed(0)
        estimate = estimator(problem.scores(), lambda z: problem.loss_function(z) + constant, generator=generator)
        return problem.gradients(estimate.surrogate.mean())

    torch.testing.assert_close(gradient(100.0), gradient(0.0))


def test_leave_one_out_has_less_variance_than_none():
    variances = {
        baseline: certify(
            estimators.build("score_function", samples=2, baseline=baseline), Problem(FLAT, batch_size=1)
        ).variance
        for baseline in ("none", "leave_one_out")
    }
    assert variances["leave_one_out"] < variances["none"]


@pytest.mark.parametrize("width", [1, 2, 5, 8])
def test_dot_products_agree_whichever_product_is_taken(width):
    torch.manual_seed(0)
    table = LatentLinear(8, 3).double()
    candidates = torch.randn(4, 6, 3, dtype=F64, requires_grad=True)
    index = torch.stack([torch.randperm(8)[:width].sort().values for _ in range(4)])
    latents = Latents.regular(index, 8, F64, enumerates=width == 8)
    by_hand = (table.weight[latents.index].unsqueeze(1) * candidates[latents.row]).sum(-1)
    found = dot_products(table, latents, candidates)
    torch.testing.assert_close(found, by_hand)
    seed = torch.randn_like(by_hand)
    for left, right in zip(
        *(torch.autograd.grad(each, [candidates, table.weight], seed) for each in (found, by_hand)), strict=True
    ):
        torch.testing.assert_close(left, right)


def test_dot_products_of_relaxed_and_ragged_latents():
    torch.manual_seed(0)
    table = LatentLinear(8, 3).double()
    candidates = torch.randn(3, 6, 3, dtype=F64)
    value = torch.randn(3, 8, dtype=F64).softmax(1)
    expected = torch.einsum("bk,kf,bcf->bc", value, table.weight, candidates)
    torch.testing.assert_close(dot_products(table, Latents.relaxed(value), candidates), expected)
    for row, index in (([0, 0, 2], [1, 7, 3]), ([0] * 8 + [1, 2], [*range(8), 5, 5])):
        ragged = Latents.ragged(torch.tensor(row), torch.tensor(index), 3, 8, F64)
        expected = torch.einsum("nf,ncf->nc", table.weight[index], candidates[row])
        torch.testing.assert_close(dot_products(table, ragged, candidates), expected)


def test_a_layer_reads_an_index_as_it_reads_its_one_hot_vector():
    layer = LatentLinear(5, 4).double()
    latents = Latents.regular(torch.tensor([[3, 1], [0, 4]]), 5, F64)
    torch.testing.assert_close(layer(latents), latents.value @ layer.weight)
    assert latents.value.tolist() == torch.eye(5)[[3, 1, 0, 4]].tolist()


def test_ragged_pairs_pad_unpad_sum_and_gather():
    latents = Latents.ragged(torch.tensor([0, 2, 2, 2]), torch.tensor([1, 0, 1, 2]), 3, 3, F64)
    x = torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    padded = latents.pad(x)
    assert padded[..., 0].tolist() == [[1, 0, 0], [0, 0, 0], [2, 3, 4]]
    assert torch.equal(latents.unpad(padded), x)
    assert latents.sum(x[:, 0]).tolist() == [1, 0, 9]
    assert latents.gather(torch.tensor([10, 20, 30])).tolist() == [10, 30, 30, 30]
    assert latents.counts.tolist() == [1, 0, 3]
    assert latents.width == 3


def test_categorical_by_hand():
    q = Categorical(torch.tensor([[0.0, torch.log(torch.tensor(3.0)), -torch.inf]]))
    assert q.probabilities.tolist()[0] == pytest.approx([0.25, 0.75, 0])
    entropy = -(0.25 * torch.log(torch.tensor(0.25)) + 0.75 * torch.log(torch.tensor(0.75)))
    assert float(q.entropy()) == pytest.approx(float(entropy))
    assert q.argmax().tolist() == [1]
    assert q.log_probability(torch.tensor([[1, 0]])).exp().tolist()[0] == pytest.approx([0.75, 0.25])
    assert q.enumerate().index.tolist() == [0, 1, 2]
