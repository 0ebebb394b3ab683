"""Agreement between estimators, and hand-computed values."""

import itertools

import entmax
import pytest
import torch

import estimators
from estimators import (
    BitVector,
    Categorical,
    Categoricals,
    LatentLinear,
    Latents,
    RandomDraws,
    dot_products,
    enumerate_outcomes,
    misfit,
)
from estimators.algorithms.unordered_set import completion_probabilities
from tests.estimators import oracles

F64 = torch.float64
FLAT, PEAKED = 0.3, 3.0


class Problem(torch.nn.Module):
    """``B`` examples ``x``, scores ``x W`` and losses of a small decoder; ``scale`` makes q flat or peaked."""

    def __init__(self, scale: float, batch_size: int = 2, states: int = 3, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.states = states
        self.x = torch.randn(batch_size, 2, dtype=F64)
        self.encoder = torch.nn.Parameter(scale * torch.randn(2, states, dtype=F64))
        self.embed = LatentLinear(states, 5).double()
        self.read = torch.nn.Linear(2, 5).double()
        self.out = torch.nn.Linear(5, 1).double()

    def scores(self) -> torch.Tensor:
        return self.x @ self.encoder

    def loss_function(self, latents: Latents) -> torch.Tensor:
        hidden = torch.tanh(3 * self.embed(latents) + latents.gather(self.read(self.x)))
        return 5 * self.out(hidden)[:, 0] ** 2 + 1

    def gradients(self, objective: torch.Tensor) -> torch.Tensor:
        """Gradient of the encoder, then of the decoder, as one vector."""
        return torch.cat([g.flatten() for g in torch.autograd.grad(objective, list(self.parameters()), materialize_grads=True)])


def run(name, problem, seed=0, **options):
    estimator = estimators.build(name, **options)
    generator = torch.Generator().manual_seed(seed)
    return estimator(problem.scores(), problem.loss_function, context=problem.x, generator=generator)


def assert_same_gradients(problem, left, right):
    torch.testing.assert_close(left.value, right.value)
    torch.testing.assert_close(problem.gradients(left.surrogate.mean()), problem.gradients(right.surrogate.mean()))


def test_entmax_with_alpha_two_is_sparsemax():
    problem = Problem(PEAKED, batch_size=6, states=7)
    left, right = run("entmax", problem, alpha=2.0), run("sparsemax", problem)
    torch.testing.assert_close(problem.gradients(left.surrogate.mean()), problem.gradients(right.surrogate.mean()))


@pytest.mark.parametrize("alpha", [1.5, 2.0])
def test_entmax_by_sorting_and_by_bisection_agree(alpha):
    torch.manual_seed(0)
    scores = torch.randn(20, 9, dtype=F64)
    found = estimators.build("entmax", alpha=alpha).probabilities(Categorical(scores))
    torch.testing.assert_close(found, entmax.entmax_bisect(scores, alpha, dim=1), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("alpha", [1.1, 1.3, 1.5, 2.0])
def test_entmax_of_large_single_precision_scores_is_precise(alpha):
    torch.manual_seed(0)
    scores = 1e4 + torch.randn(20, 9).mul(64).round().div(64)  # exact in single precision
    found = estimators.build("entmax", alpha=alpha).probabilities(Categorical(scores))
    precise = estimators.build("entmax", alpha=alpha).probabilities(Categorical(scores.double()))
    torch.testing.assert_close(found.double(), precise, rtol=0, atol=1e-5)


@pytest.mark.parametrize("alpha", [1.001, 1.5, 2.0])
def test_entmax_is_finite_at_the_ends_of_its_range(alpha):
    scores = torch.tensor([[0.0, 1.0, 2.0, -1e4], [0.0, 0.0, 0.0, 0.0]], dtype=F64, requires_grad=True)
    q = estimators.build("entmax", alpha=alpha).probabilities(Categorical(scores))
    (gradient,) = torch.autograd.grad((q * torch.arange(4)).sum(), scores)
    assert torch.isfinite(gradient).all()
    torch.testing.assert_close(q.sum(1), torch.ones(2, dtype=F64))


def test_entmax_near_one_approaches_softmax():
    scores = torch.randn(5, 4, dtype=F64, generator=torch.Generator().manual_seed(0))
    q = estimators.build("entmax", alpha=1.0001).probabilities(Categorical(scores))
    torch.testing.assert_close(q, scores.softmax(1), rtol=0, atol=1e-3)


@pytest.mark.parametrize("alpha", [1.000001, 1.00001, 1.001])
def test_entmax_near_one_is_precise_in_single_precision(alpha):
    scores = torch.randn(5, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    weight = torch.arange(8.0)
    q = estimators.build("entmax", alpha=alpha).probabilities(Categorical(scores))
    torch.testing.assert_close(q, scores.softmax(1), rtol=0, atol=2e-3)
    (found,) = torch.autograd.grad((q @ weight).sum(), scores)
    (expected,) = torch.autograd.grad((scores.softmax(1) @ weight).sum(), scores)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-2)


@pytest.mark.parametrize("name", ["sparsemax", "entmax"])
def test_gradcheck_through_sparse_probabilities(name):
    scores = torch.tensor([[0.1, 0.45, -0.3, 0.2], [2.0, 0.1, -1.0, 1.6]], dtype=F64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s: estimators.build(name).probabilities(Categorical(s)), scores)


@pytest.mark.parametrize("name", ["dense", "sparsemax", "entmax"])
def test_gradcheck_through_the_entropy(name):
    scores = torch.tensor([[0.1, 0.45, -0.3, 0.2], [2.0, 0.1, -1.0, 1.6]], dtype=F64, requires_grad=True)
    estimator = estimators.build(name)
    assert torch.autograd.gradcheck(lambda s: estimator.propose(Categorical(s), RandomDraws()).entropy, scores)


def test_sparsemax_by_hand():
    scores = torch.tensor([[0.5, 0.2, -1.0], [3.0, 0.0, 0.0]])
    estimator = estimators.build("sparsemax")
    proposal = estimator.propose(Categorical(scores), RandomDraws())
    assert proposal.pairs.row.tolist() == [0, 0, 1]
    assert proposal.pairs.index.tolist() == [0, 1, 0]
    assert proposal.weights.tolist() == pytest.approx([0.65, 0.35, 1.0])
    estimate = estimator.combine(proposal, torch.tensor([1.0, 3.0, 7.0]))
    assert estimate.value.tolist() == pytest.approx([0.65 + 1.05, 7.0])
    assert estimate.decoder_calls.tolist() == [2, 1]


def test_dense_by_hand():
    scores = torch.tensor([[0.0, 0.0], [torch.log(torch.tensor(3.0)), 0.0]])
    estimate = estimators.build("dense")(scores, lambda latents: torch.tensor([1.0, 3.0, 4.0, 8.0]))
    assert estimate.value.tolist() == pytest.approx([2.0, 5.0])
    assert estimate.decoder_calls.tolist() == [2, 2]


def test_with_one_state_every_categorical_estimator_is_the_plain_loss():
    problem = Problem(FLAT, states=1)
    for name in estimators.ESTIMATORS:
        if not misfit(estimators.build(name), Categorical(problem.scores())):
            plain = problem.loss_function(Latents.regular(torch.zeros(2, 1, dtype=torch.int64), 1, F64))
            estimate = run(name, problem)
            torch.testing.assert_close(estimate.value, plain.detach())
            torch.testing.assert_close(problem.gradients(estimate.surrogate.sum()), problem.gradients(plain.sum()))


@pytest.mark.parametrize("scale", [FLAT, PEAKED])
@pytest.mark.parametrize("options", [{"summed": 5}, {"summed": 9}, {"summed": 5, "baseline": "nvil"}])
def test_sum_and_sample_that_sums_everything_is_dense(options, scale):
    problem = Problem(scale, batch_size=4, states=5)
    assert_same_gradients(problem, run("sum_and_sample", problem, **options), run("dense", problem))


@pytest.mark.parametrize("scale", [FLAT, PEAKED])
@pytest.mark.parametrize("baseline", [False, True])
@pytest.mark.parametrize("samples", [5, 8])
def test_an_unordered_set_of_everything_is_dense(samples, baseline, scale):
    problem = Problem(scale, batch_size=4, states=5)
    assert_same_gradients(problem, run("unordered_set", problem, samples=samples, baseline=baseline), run("dense", problem))


def test_an_unordered_set_of_all_that_has_mass_is_dense():
    problem = Problem(FLAT, batch_size=2, states=6)
    mask = torch.tensor([[0, 1, 0, 1, 1, 0], [1, 0, 0, 0, 0, 0]], dtype=torch.bool)
    results = []
    for name, options in (("unordered_set", {"samples": 3}), ("dense", {})):
        estimate = estimators.build(name, **options)(problem.scores().masked_fill(mask, -torch.inf), problem.loss_function)
        results.append(problem.gradients(estimate.surrogate[0]))
    torch.testing.assert_close(*results)


def test_the_probability_of_a_set_by_summing_its_orders():
    q = torch.tensor([0.4, 0.25, 0.2, 0.1, 0.05], dtype=F64)
    subset = [0, 2, 3]

    def drawn_in(order, left):
        total = 1.0
        for state in order:
            total *= float(q[state]) / left
            left -= float(q[state])
        return total

    by_hand = sum(drawn_in(order, 1.0) for order in itertools.permutations(subset))
    rest = 1 - q[subset].sum()
    found = completion_probabilities(q[subset].unsqueeze(0), rest.unsqueeze(0))[0]
    assert float(found[0]) == pytest.approx(by_hand, rel=1e-12)
    without_first = sum(drawn_in(order, 1 - 0.4) for order in itertools.permutations([2, 3]))
    assert float(found[1]) == pytest.approx(without_first, rel=1e-12)
    assert float(found[7]) == 1


def test_set_probabilities_are_precise_where_one_state_has_nearly_all_mass():
    inside = torch.tensor([[1 - 1e-13, 4e-14, 3e-14]], dtype=F64)
    found = completion_probabilities(inside, torch.tensor([3e-14], dtype=F64))
    assert float(found[0, 1]) == pytest.approx((4 / 10) * (3 / 6) + (3 / 10) * (4 / 7), rel=1e-2)


def test_score_function_of_a_constant_loss_has_zero_mean():
    problem = Problem(FLAT)
    for options in ({}, {"samples": 2}):
        estimator = estimators.build("score_function", **options)

        def program(draws, estimator=estimator):
            proposal = estimator.propose(Categorical(problem.scores()), draws)
            return problem.gradients(estimator.combine(proposal, torch.full((len(proposal),), 7.0, dtype=F64)).surrogate.sum())

        mean = sum(probability * gradient for probability, gradient in enumerate_outcomes(program))
        assert mean.abs().max() < 1e-12


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("score_function", {"samples": 3, "baseline": "leave_one_out"}),
        ("score_function", {"baseline": "self_critic"}),
        ("score_function", {"baseline": "sampled_self_critic"}),
        ("unordered_set", {"samples": 3}),
        ("vimco", {"samples": 3}),
        ("dense", {}),
        ("sparsemax", {}),
        ("bounded_sparse", {"budget": 3}),
    ],
)
def test_a_constant_added_to_the_loss_changes_no_gradient(name, options):
    problem = Problem(FLAT, states=6)

    def gradient(constant):
        estimator = estimators.build(name, **options)
        generator = torch.Generator().manual_seed(0)
        estimate = estimator(problem.scores(), lambda z: problem.loss_function(z) + constant, generator=generator)
        return problem.gradients(estimate.surrogate.mean())

    torch.testing.assert_close(gradient(100.0), gradient(0.0))


def test_a_constant_added_to_the_loss_is_learned_by_the_moving_average():
    problem = Problem(FLAT)

    def gradient(constant):
        estimator = estimators.build("score_function", baseline="moving_average")
        for step in range(2):
            generator = torch.Generator().manual_seed(step)
            estimate = estimator(problem.scores(), lambda z: problem.loss_function(z) + constant, generator=generator)
        return problem.gradients(estimate.surrogate.mean())

    torch.testing.assert_close(gradient(100.0), gradient(0.0))


def test_leave_one_out_is_the_mean_over_pairs():
    problem = Problem(FLAT, batch_size=1, states=4)
    estimator = estimators.build("score_function", samples=3, baseline="leave_one_out")
    generator = torch.Generator().manual_seed(2)
    proposal = estimator.propose(Categorical(problem.scores()), RandomDraws(generator))
    losses = problem.loss_function(proposal.pairs)
    found = problem.gradients(estimator.combine(proposal, losses).surrogate.sum())
    losses = problem.loss_function(proposal.pairs)
    log_q = problem.scores().log_softmax(1)[0, proposal.pairs.index]
    pairs = [(losses[i] - losses[j]).detach() * (log_q[i] - log_q[j]) / 2 for i, j in itertools.combinations(range(3), 2)]
    expected = problem.gradients(losses.mean() + torch.stack(pairs).mean())
    torch.testing.assert_close(found, expected)


def expected_encoder_gradient(estimator, scores, loss_function, space=Categorical):
    """Exact, by enumeration."""

    def program(draws):
        leaf = scores.clone().requires_grad_()
        proposal = estimator.propose(space(leaf), draws)
        return torch.autograd.grad(estimator.combine(proposal, loss_function(proposal.pairs)).surrogate.sum(), leaf)[0]

    return sum(probability * gradient for probability, gradient in enumerate_outcomes(program))


@pytest.mark.parametrize("states", [2, 5])
@pytest.mark.parametrize("loss", ["linear", "quadratic"])
def test_reinmax_is_exact_for_linear_and_quadratic_losses(loss, states):
    torch.manual_seed(4)
    scores, weight, matrix = torch.randn(2, states), torch.randn(states), torch.randn(states, states)
    scores, weight, matrix = scores.double(), weight.double(), matrix.double()

    def loss_function(latents):
        value = latents.value.double()
        return value @ weight + (((value @ matrix) * value).sum(1) if loss == "quadratic" else 0)

    found, exact = (expected_encoder_gradient(estimators.build(name), scores, loss_function) for name in ("reinmax", "dense"))
    torch.testing.assert_close(found, exact, rtol=1e-12, atol=1e-12)


def test_straight_through_is_exact_for_linear_losses():
    torch.manual_seed(4)
    scores, weight = torch.randn(2, 4, dtype=F64), torch.randn(4, dtype=F64)
    for space in (Categorical, BitVector, lambda scores: Categoricals(scores, 2)):
        found, exact = (
            expected_encoder_gradient(estimators.build(name), scores, lambda z: z.value @ weight, space)
            for name in ("straight_through", "dense")
        )
        torch.testing.assert_close(found, exact)


@pytest.mark.parametrize("k", [4, 7, 50])
def test_top_k_that_holds_the_support_is_sparsemax(k):
    problem = Problem(1.0, batch_size=6, states=7)
    sparse = run("sparsemax", problem)
    assert int(sparse.decoder_calls.max()) <= 4
    best = run("top_k_sparsemax", problem, k=k)
    torch.testing.assert_close(best.value, sparse.value)
    assert torch.equal(best.decoder_calls, sparse.decoder_calls)
    assert_same_gradients(problem, best, sparse)


def test_top_k_reports_its_saturation():
    scores = torch.tensor([[1.0, 0.9, 0.8, 0.7], [5.0, 0.0, 0.0, 0.0]], dtype=F64)
    for k, expected in ((2, [1.0, 0.0]), (4, [0.0, 0.0])):
        proposal = estimators.build("top_k_sparsemax", k=k).propose(Categorical(scores), RandomDraws())
        assert proposal.metrics["saturation"].tolist() == expected


@pytest.mark.parametrize("budget", [7, 32])
def test_bounded_sparse_whose_budget_holds_the_support_is_sparsemax(budget):
    problem = Problem(FLAT, batch_size=6, states=7)
    bounded, sparse = run("bounded_sparse", problem, budget=budget), run("sparsemax", problem)
    assert torch.equal(bounded.decoder_calls, sparse.decoder_calls)
    assert torch.equal(bounded.value, sparse.value)
    assert_same_gradients(problem, bounded, sparse)


@pytest.mark.parametrize("bits", [1, 3])
def test_dense_bits_are_dense_over_all_their_states(bits):
    """A softmax over 2^D states whose scores are those of the bit vectors."""
    torch.manual_seed(1)
    scores = torch.randn(4, bits, dtype=F64, requires_grad=True)
    table = torch.randn(4, 2**bits, dtype=F64, requires_grad=True)
    states = torch.from_numpy(oracles.bit_states(bits))
    by_bits = estimators.build("dense")(BitVector(scores), lambda latents: table.flatten())
    by_states = estimators.build("dense")(scores @ states.t(), lambda latents: table.flatten())
    torch.testing.assert_close(by_bits.value, by_states.value)
    torch.testing.assert_close(by_bits.entropy, by_states.entropy)
    gradients = [torch.autograd.grad(each.surrogate.sum(), [scores, table]) for each in (by_bits, by_states)]
    for left, right in zip(*gradients, strict=True):
        torch.testing.assert_close(left, right)


def test_arms_with_two_samples_is_disarm_by_hand():
    """Dong, Mnih and Tucker (2020): (f(b) - f(b')) / 2 (-1)^b' 1[b != b'] sigma(|s|)."""
    torch.manual_seed(0)
    scores = torch.randn(50, 4, dtype=F64, requires_grad=True)
    weight = torch.randn(4, dtype=F64)
    estimator = estimators.build("disarm")
    proposal = estimator.propose(BitVector(scores), RandomDraws(torch.Generator().manual_seed(1)))
    losses = torch.exp(proposal.pairs.value @ weight)
    found = torch.autograd.grad(estimator.combine(proposal, losses).surrogate.sum(), scores)[0]
    first, second = proposal.pairs.value.view(50, 2, 4).unbind(1)
    left, right = losses.view(50, 2).unbind(1)
    sign = torch.where(second == 1, -1.0, 1.0) * (first != second)
    expected = ((left - right) / 2).unsqueeze(1) * sign * torch.sigmoid(scores.detach().abs())
    torch.testing.assert_close(found, expected)


def test_vimco_by_hand():
    scores = torch.tensor([[0.2, -0.3, 0.6]], dtype=F64, requires_grad=True)
    estimator = estimators.build("vimco", samples=2)
    proposal = estimator.propose(Categorical(scores), RandomDraws(torch.Generator().manual_seed(3)))
    losses = torch.tensor([0.7, 1.9], dtype=F64, requires_grad=True)
    estimate = estimator.combine(proposal, losses)
    weights = (-losses).exp().detach()
    bound = (weights.sum() / 2).log()
    assert float(estimate.value) == pytest.approx(-float(bound))
    gradient_scores, gradient_losses = torch.autograd.grad(estimate.surrogate.sum(), [scores, losses])
    torch.testing.assert_close(gradient_losses, weights / weights.sum())
    # With two samples, the geometric mean of the others is the other one.
    signal = bound - weights.flip(0).log()
    one_hot = proposal.pairs.value
    expected = -(signal.unsqueeze(1) * (one_hot - scores.softmax(1).detach())).sum(0, keepdim=True)
    torch.testing.assert_close(gradient_scores, expected)


def test_relax_with_a_fixed_control_variate_keeps_it_and_rebar_learns_its_own():
    scores = torch.randn(64, 4, dtype=torch.float32, generator=torch.Generator().manual_seed(0)).requires_grad_()
    weight = torch.tensor([0.1, 2.0, -1.0, 0.4], requires_grad=True)

    def loss_function(latents):
        return torch.tanh(latents.value @ weight) + (latents.value @ weight) ** 2

    fixed = estimators.build("rebar", learned=False)(scores, loss_function)
    assert not fixed.auxiliary.requires_grad
    estimator = estimators.build("rebar", temperature=2.0, scale=0.1)
    estimate = estimator(scores, loss_function, generator=torch.Generator().manual_seed(0))
    own = torch.autograd.grad(estimate.auxiliary, [*estimator.parameters()], retain_graph=True)
    assert all(gradient.abs() > 0 for gradient in own)
    # The gradient of the auxiliary loss is that of the mean square of the encoder's gradient, and of nothing else.
    others = torch.autograd.grad(estimate.auxiliary, [scores, weight], allow_unused=True, retain_graph=True)
    assert all(gradient is None or gradient.abs().max() == 0 for gradient in others)

    def mean_square(scale):
        changed = estimators.build("rebar", temperature=2.0, scale=scale)
        generator = torch.Generator().manual_seed(0)
        surrogate = changed(scores, loss_function, generator=generator).surrogate
        return float(torch.autograd.grad(surrogate.sum(), scores)[0].square().sum(1).mean())

    slope = (mean_square(0.11) - mean_square(0.09)) / 0.02
    assert float(own[1]) == pytest.approx(slope, rel=1e-2)


def test_the_learned_variate_lowers_the_variance():
    scores = torch.tensor([[0.3, -0.2, 0.1]]).repeat(256, 1).requires_grad_()
    weight = torch.tensor([1.0, -2.0, 0.5])
    torch.manual_seed(0)
    estimator = estimators.build("relax", scale=0.0, hidden_size=8)
    generator = torch.Generator().manual_seed(0)

    def estimate():
        return estimator(scores, lambda z: (z.value @ weight) ** 2, generator=generator)

    estimate()
    optimizer = torch.optim.Adam(estimator.parameters(), 0.02)
    squares = []
    for _ in range(150):
        auxiliary = estimate().auxiliary
        optimizer.zero_grad()
        auxiliary.backward()
        optimizer.step()
        squares.append(float(auxiliary.detach()))
    plain = estimators.build("rebar", scale=0.0, learned=False)  # the score function without a control variate
    many = scores.detach().repeat(20, 1).requires_grad_()
    surrogate = plain(many, lambda z: (z.value @ weight) ** 2, generator=generator).surrogate
    without = float(torch.autograd.grad(surrogate.sum(), many)[0].square().sum(1).mean())
    assert sum(squares[-20:]) / 20 < 0.7 * without


@pytest.mark.parametrize("name", ["score_function", "sum_and_sample"])
def test_nvil_learns_the_loss_of_the_input(name):
    torch.manual_seed(0)
    context = torch.randn(64, 3)
    scores = torch.zeros(64, 4, requires_grad=True)
    estimator = estimators.build(name, baseline="nvil", hidden_size=16)
    generator = torch.Generator().manual_seed(0)

    def estimate():
        return estimator(scores, lambda z: z.gather(context)[:, 0], context=context, generator=generator)

    estimate()
    optimizer = torch.optim.Adam(estimator.parameters(), 0.02)
    errors = []
    for _ in range(200):
        auxiliary = estimate().auxiliary
        optimizer.zero_grad()
        auxiliary.backward()
        optimizer.step()
        errors.append(float(auxiliary.detach()))
    assert errors[-1] < 0.1 * errors[0]


def test_a_learned_baseline_says_that_it_needs_the_input():
    with pytest.raises(ValueError, match="pass context=features"):
        estimators.build("score_function", baseline="nvil")(torch.zeros(2, 3), lambda z: z.value[:, 0])


def test_variance_normalisation_shortens_the_gradient_by_what_the_past_tells():
    estimator = estimators.build("score_function", normalise_variance=True, decay=1.0)
    scores = torch.zeros(2, 3, dtype=F64, requires_grad=True)

    def gradient(loss):
        estimate = estimator(scores, lambda z: torch.full((2,), loss, dtype=F64), generator=torch.Generator().manual_seed(0))
        return torch.autograd.grad(estimate.surrogate.sum(), scores)[0]

    first = gradient(8.0)  # no past: not scaled
    torch.testing.assert_close(gradient(8.0), first / 8)
    torch.testing.assert_close(gradient(0.1), first / 80 / 8)  # the mean square still is 64
    assert not estimator.unbiased


def test_learned_alpha_is_learned_within_its_bounds():
    torch.manual_seed(0)
    estimator = estimators.build("entmax", learned=True)
    assert float(estimator.alpha.detach()) == pytest.approx(1.5)
    scores = torch.randn(32, 6)
    target = torch.randn(6)
    optimizer = torch.optim.SGD(estimator.parameters(), 50.0)
    values = []
    for _ in range(60):
        estimate = estimator(scores, lambda z: (z.value @ target - 3) ** 2)
        optimizer.zero_grad()
        estimate.surrogate.mean().backward()
        optimizer.step()
        values.append(float(estimate.value.mean()))
        assert 1.01 < float(estimator.alpha.detach()) < 2
        assert estimate.metrics["alpha"].shape == (32,)
    assert values[-1] < values[0]


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
    biased = LatentLinear(5, 4, bias=True).double()
    torch.testing.assert_close(biased(latents), latents.value @ biased.weight + biased.bias)
    vectors = Latents.regular_vectors(latents.pad(latents.value))
    torch.testing.assert_close(biased(vectors), biased(latents))


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
    assert q.argmax().tolist() == [[1]]
    assert q.log_probability(torch.tensor([[1, 0]])).exp().tolist()[0] == pytest.approx([0.75, 0.25])
    assert q.enumerate().index.tolist() == [0, 1, 2]


@pytest.mark.parametrize("name", ["straight_through", "reinmax", "gumbel_softmax", "gumbel_rao", "rebar", "relax"])
def test_losses_that_are_detached_from_the_latent_are_refused_where_they_are_differentiated(name):
    scores = torch.randn(3, 4, requires_grad=True)
    estimator = estimators.build(name)
    with pytest.raises(ValueError, match="must not be detached"):
        estimator(scores, lambda z: z.value.detach().sum(1))
    with torch.no_grad():
        assert estimator(scores, lambda z: z.value.sum(1)).value.shape == (3,)


def test_the_context_must_have_an_example_for_each_row_of_scores():
    estimator = estimators.build("score_function", baseline="nvil")
    for size in (1, 2):
        with pytest.raises(ValueError, match=f"the context has {size} examples, the scores 3"):
            estimator(torch.zeros(3, 4), lambda z: z.value[:, 0], context=torch.zeros(size, 5))
    assert estimator(torch.zeros(3, 4), lambda z: z.value[:, 0], context=torch.zeros(3, 5)).value.shape == (3,)


def test_vimco_survives_a_loss_that_is_infinite():
    scores = torch.zeros(1, 3, requires_grad=True)
    losses = torch.tensor([1.0, torch.inf, 2.0])
    estimate = estimators.build("vimco", samples=3)(scores, lambda z: losses + 0 * scores.sum())
    assert torch.isfinite(estimate.value).all()
    assert torch.isfinite(torch.autograd.grad(estimate.surrogate.sum(), scores)[0]).all()


@pytest.mark.parametrize("budget", [None, 1, 2])
def test_tied_bits_of_sparse_map_have_a_subgradient(budget):
    """A constant in the losses changes no gradient, tied bits share theirs, and their sum is the slope of moving together."""
    scores = torch.tensor([[0.3, 0.3, -0.2, 0.3], [1.0, -1.0, 0.1, 0.1], [0.5, 0.5, 0.5, 0.5]], dtype=F64)
    estimator = estimators.build("sparse_map", budget=budget)

    def expectation(at, constant=0.0):
        losses = lambda z: (z.value @ torch.tensor([1.0, 1.0, 3.0, 1.0], dtype=F64) - 1.3).square() + constant  # noqa: E731
        return estimator(BitVector(at), losses).surrogate.sum()

    def gradient(constant):
        at = scores.clone().requires_grad_()
        return torch.autograd.grad(expectation(at, constant), at)[0]

    found = gradient(0.0)
    torch.testing.assert_close(gradient(1000.0), found, rtol=0, atol=1e-9)
    together = torch.zeros_like(scores)
    together[0, [0, 1, 3]] = 1e-6
    together[2] = 1e-6
    slope = (expectation(scores + together) - expectation(scores - together)) / 2
    assert float(slope) == pytest.approx(float((found * together).sum()), rel=1e-5, abs=1e-14)
