"""Alpha-entmax without a sort, against the sort and the bisection of the package entmax."""

import entmax
import pytest
import torch

from estimators.mappings import alpha_entmax, sparse_entmax
from estimators.thresholds import MANY, search, threshold

F64 = torch.float64
SORTS = {2.0: entmax.sparsemax, 1.5: entmax.entmax15}
SIZES = [1, 2, 3, 20, 64, 65, 300, MANY, 1500, 4096]
SCALES = [1e-3, 0.03, 1.0, 30.0, 1e3]


def random_scores(size, scale, rows=24):
    """Normal scores, and rows with ties, masked states, supports of one and two, and all states alike."""
    torch.manual_seed(size)
    scores = scale * torch.randn(rows, size, dtype=F64)
    scores[0] = (scores[0] / scale).round() * scale  # ties
    scores[1, torch.rand(size) < 0.7] = -torch.inf
    scores[1, size // 2] = 0.0
    scores[2] = 0.0
    scores[3] = -torch.inf
    scores[3, -1] = 5.0
    scores[4] -= 9 * scale + 9
    scores[4, [0, -1]] = torch.tensor([1.0, 0.8], dtype=F64)[: scores[4, [0, -1]].numel()]
    scores[5] += 1e6 * scale  # far from zero
    scores[6, : size // 2] -= 50 * scale  # the support is in one half
    return scores


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("alpha", SORTS)
def test_probabilities_and_support_are_those_of_the_sort(alpha, size, scale):
    scores = random_scores(size, scale)
    found, sorted_ = alpha_entmax(scores, alpha), SORTS[alpha](scores, -1)
    torch.testing.assert_close(found, sorted_, rtol=0, atol=1e-9)
    assert torch.equal(found > 0, sorted_ > 0)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("alpha", [1.01, 1.1, 1.3, 1.7, 1.99, 2.0, 1.5])
def test_probabilities_are_those_of_bisection_with_alpha_a_number_or_learned(alpha, size, scale):
    scores = random_scores(size, scale)
    oracle = entmax.entmax_bisect(scores.clamp(min=-1e9), alpha, dim=-1, n_iter=100)
    # The bisection, unlike the mapping, does not move scores far from zero there before it rounds them.
    oracle[5] = entmax.entmax_bisect(scores[5:6] - scores[5:6].amax(), alpha, dim=-1, n_iter=100)[0]
    for given in (alpha, torch.tensor(alpha, dtype=F64)):
        torch.testing.assert_close(alpha_entmax(scores, given), oracle, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("scale", [*SCALES, 1e-30, 1e30])
@pytest.mark.parametrize("size", [1, 3, 65, 300, 4096])
@pytest.mark.parametrize("alpha", [1.05, 1.5, 2.0])
def test_single_precision_has_the_support_of_double_precision(alpha, size, scale):
    scores = random_scores(size, scale).float()
    found, precise = alpha_entmax(scores, alpha), alpha_entmax(scores.double(), alpha)
    torch.testing.assert_close(found.double(), precise, rtol=0, atol=3e-6)
    torch.testing.assert_close(found.sum(-1), torch.ones(len(scores)), rtol=0, atol=1e-5)
    levels = (alpha - 1) * (scores.double() - scores.double().amax(-1, keepdim=True))
    height = levels - threshold(levels, 1 / (alpha - 1))
    clear = height.abs() > 1e-6
    # A power of a clear height may still be too small a number for single precision.
    clear &= (precise == 0) | (precise > torch.finfo(torch.float32).tiny)
    assert torch.equal((found > 0)[clear], (height > 0)[clear])


@pytest.mark.parametrize("size", [3, 64, 65, 256, 4096])
@pytest.mark.parametrize("dtype", [F64, torch.float32])
def test_a_state_that_is_just_on_the_threshold_has_no_mass(dtype, size):
    scores = torch.full((2, size), -3.0, dtype=dtype)
    scores[0, [0, 2]] = torch.tensor([1.0, 0.0], dtype=dtype)  # sparsemax: the second lies on the threshold
    scores[1, [0, 2]] = torch.tensor([2.0, 0.0], dtype=dtype)  # 1.5-entmax: it does
    assert alpha_entmax(scores, 2.0)[0].tolist() == [1.0] + [0.0] * (size - 1)
    assert alpha_entmax(scores, 1.5)[1].tolist() == [1.0] + [0.0] * (size - 1)


@pytest.mark.parametrize("alpha", [1.5, 2.0])
def test_many_rounds_of_a_spread_support_end_at_the_sort(alpha):
    """Scores that fall geometrically leave the support one after another."""
    scores = -(3.0 ** torch.arange(-30, 10, dtype=F64)).repeat(2, 8)
    scores[1] *= 1e-3
    torch.testing.assert_close(alpha_entmax(scores, alpha), SORTS[alpha](scores, -1), rtol=0, atol=1e-10)


def test_what_is_not_a_number_stays_so_and_ends():
    for size in (3, 100, 4096):
        scores = torch.zeros(3, size)
        scores[1, size // 2] = torch.nan
        for alpha in (1.2, 1.5, 2.0):
            q = alpha_entmax(scores, alpha)
            assert q[1].isnan().any()
            torch.testing.assert_close(q[[0, 2]], torch.full((2, size), 1 / size))


@pytest.mark.parametrize("alpha", [1.3, 1.5, 2.0])
def test_a_search_finds_few_states_with_all_the_mass(alpha):
    torch.manual_seed(0)
    scores = 3 * torch.randn(8, 5000)
    few, start = search(scores, alpha)
    assert few.states.shape[1] < 600
    assert (start < 0).all()
    q = SORTS.get(alpha, lambda s, dim: entmax.entmax_bisect(s, alpha, dim=dim))(scores.double(), -1)
    mass = torch.where(few.padding, 0, q.gather(1, few.states)).sum(1)
    torch.testing.assert_close(mass, torch.ones(8, dtype=F64))
    assert (few.states.diff(dim=1)[few.padding[:, 1:].logical_not()] > 0).all()
    states, found = sparse_entmax(scores, alpha)
    assert torch.equal(torch.zeros_like(scores).scatter_add(1, states, found), alpha_entmax(scores, alpha))


@pytest.mark.parametrize("alpha", [1.05, 1.3, 1.5, 1.9, 2.0])
def test_gradcheck_to_the_second_order(alpha):
    torch.manual_seed(1)
    scores = torch.randn(3, 7, dtype=F64)
    scores[0, 3] = -torch.inf
    scores.requires_grad_()
    used = lambda s, a=alpha: alpha_entmax(torch.where(s.isinf(), -torch.inf, s), a)  # noqa: E731
    leaf = scores.detach().clamp(min=-40).requires_grad_()
    assert torch.autograd.gradcheck(used, leaf)
    assert torch.autograd.gradgradcheck(used, leaf, atol=1e-4)
    (slope,) = torch.autograd.grad(alpha_entmax(scores, alpha).square().sum(), scores)
    assert slope[0, 3] == 0
    assert slope.isfinite().all()
    if alpha < 2:
        learned = torch.tensor(alpha, dtype=F64, requires_grad=True)
        assert torch.autograd.gradcheck(alpha_entmax, (leaf, learned), atol=1e-6)
        assert torch.autograd.gradgradcheck(alpha_entmax, (leaf, learned), atol=1e-4)


@pytest.mark.parametrize("size", [5, 300, 4096])
@pytest.mark.parametrize("scale", [0.03, 1.0, 30.0])
@pytest.mark.parametrize("alpha", [1.3, 1.5, 2.0])
def test_gradients_are_those_of_the_oracle_in_both_precisions(alpha, scale, size):
    scores = random_scores(size, scale).clamp(min=-1e4)
    scores[5] -= scores[5].mean()
    direction = torch.randn_like(scores)

    def slope(mapping, dtype):
        leaf = scores.to(dtype).requires_grad_()
        return torch.autograd.grad((mapping(leaf) * direction.to(dtype)).sum(), leaf)[0].double()

    oracle = slope(lambda s: SORTS.get(alpha, lambda t, dim: entmax.entmax_bisect(t, alpha, dim=dim))(s, -1), F64)
    torch.testing.assert_close(slope(lambda s: alpha_entmax(s, alpha), F64), oracle, rtol=1e-6, atol=1e-7)
    found = slope(lambda s: alpha_entmax(s, alpha), torch.float32)
    torch.testing.assert_close(found, oracle, rtol=1e-3, atol=2e-3 if scale > 1 else 1e-4)


@pytest.mark.parametrize("size", [4, 300, 2000])
@pytest.mark.parametrize("alpha", [1.02, 1.05, 1.3, 1.9])
def test_the_gradient_of_alpha_is_that_of_the_oracle(alpha, size):
    torch.manual_seed(size)
    scores, direction = torch.randn(6, size, dtype=F64), torch.randn(6, size, dtype=F64)

    def value(number):
        return float((entmax.entmax_bisect(scores, number, dim=-1, n_iter=100) * direction).sum())

    learned = torch.tensor(alpha, dtype=F64, requires_grad=True)
    for dtype, precise in ((F64, 1e-5), (torch.float32, 1e-4)):
        objective = (alpha_entmax(scores.to(dtype), learned) * direction.to(dtype)).sum()
        (slope,) = torch.autograd.grad(objective, learned)
        step = 1e-6
        assert float(slope) == pytest.approx((value(alpha + step) - value(alpha - step)) / (2 * step), rel=precise, abs=precise)
