"""What goes over rows a few at a time gives the same bits as whole tables do."""

import pytest
import torch

import estimators
from estimators import Categorical, RandomDraws, softmax

F64 = torch.float64


def random_scores(size, dtype, scale=1.0):
    torch.manual_seed(size)
    scores = scale * torch.randn(13, size, dtype=F64)
    scores[2, : size // 2] = -torch.inf
    return scores.to(dtype)


@pytest.fixture(params=[1, 40_000, 1 << 30])
def chunk(request, monkeypatch):
    """One row at a time; a few, which may leave a rest; and all at once."""
    monkeypatch.setattr(softmax, "CPU_CHUNK_BYTES", request.param)


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("scale", [0.01, 3.0, 2e3])
@pytest.mark.parametrize("size", [2, 7, 256, 3000])
def test_weighing_states_is_their_log_probability_and_the_entropy_to_the_bit(size, scale, dtype):
    leaf = random_scores(size, dtype, scale).requires_grad_()
    states = torch.randint(size // 2, size, (13, 3))
    weights = torch.randn(13, 3, dtype=dtype), torch.randn(13, dtype=dtype)

    def results(weigh):
        space = Categorical(leaf)
        log_probability, entropy = weigh(space)
        objective = (log_probability * weights[0]).sum() + (entropy * weights[1]).sum()
        return log_probability, entropy, torch.autograd.grad(objective, leaf)[0]

    def plain(space):
        entropy = space.entropy()
        return space.log_probability(states), entropy

    for found, expected in zip(results(lambda space: space.weigh(states)), results(plain), strict=True):
        assert torch.equal(found, expected)


def test_weighing_is_differentiable_twice():
    leaf = torch.randn(3, 5, dtype=F64).requires_grad_()
    states = torch.tensor([[0, 4], [1, 1], [3, 2]])
    weigh = lambda scores: Categorical(scores).weigh(states)  # noqa: E731
    assert torch.autograd.gradcheck(weigh, leaf)
    assert torch.autograd.gradgradcheck(weigh, leaf)


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize("size", [2, 256, 3000])
def test_samples_are_those_of_the_whole_table_of_cumulative_probabilities(size):
    q = random_scores(size, torch.float32).softmax(-1)
    found = RandomDraws(torch.Generator().manual_seed(5)).categorical(q, 9)
    uniform = torch.rand(13, 9, generator=torch.Generator().manual_seed(5), dtype=F64)
    cumulative = q.double().cumsum(-1)
    assert torch.equal(found, (cumulative.unsqueeze(1) <= (uniform * cumulative[:, -1:]).unsqueeze(-1)).sum(-1))


@pytest.mark.parametrize("name", ["sparsemax", "entmax", "bounded_sparse"])
@pytest.mark.parametrize("scale", [0.0, 0.5, 5.0])
def test_sparse_estimators_are_exact_among_many_states(name, scale):
    """Only those that may have mass are looked at; a wide support is one of all states."""
    options = {"budget": 2000, "summed": 3} if name == "bounded_sparse" else {}
    estimator = estimators.build(name, **options)
    leaf = random_scores(1500, F64, scale).requires_grad_()
    losses = torch.randn(1500, dtype=F64)
    estimate = estimator(leaf, lambda pairs: losses[pairs.index])
    q = estimator.probabilities(Categorical(leaf))
    expected = (q * losses).sum(1)
    torch.testing.assert_close(estimate.value, expected.detach())
    assert torch.equal(estimate.decoder_calls, (q > 0).sum(1))
    found = torch.autograd.grad(estimate.surrogate.sum(), leaf)[0]
    torch.testing.assert_close(found, torch.autograd.grad(expected.sum(), leaf)[0])


def test_a_budget_binds_among_many_states():
    estimator = estimators.build("bounded_sparse", budget=6, summed=2)
    scores = Categorical(random_scores(4000, F64, 0.05))
    proposal = estimator.propose(scores, RandomDraws(torch.Generator().manual_seed(0)))
    q = estimator.probabilities(scores)
    assert (proposal.metrics["support"] == (q > 0).sum(1)).all()
    beyond = (q > 0).sum(1) > 6
    assert beyond.any()
    assert (proposal.pairs.counts[beyond] == 6).all()
    pairs = proposal.pairs
    assert (q[pairs.row, pairs.index] > 0).all()
    for row in beyond.nonzero()[:, 0].tolist():
        assert set(q[row].topk(2).indices.tolist()) <= set(pairs.index[pairs.row == row].tolist())
        assert pairs.index[pairs.row == row].unique().numel() == 6
