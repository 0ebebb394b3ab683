"""The evidence: importance sampling against the enumeration of all states."""

import math

import pytest
import torch

import estimators
from estimators import RandomDraws
from estimators.expectations import expectation
from latent.models import BitVectorVAE
from latent.models.evidence import Evidence, _uniform_outside, evidence
from tests.models.conftest import images

BITS = 8
SPARSE = {
    "top-k": ("top_k_sparsemax", {"k": 6}),
    "SparseMAP": ("sparse_map", {}),
    "SparseMAP with a budget": ("sparse_map", {"budget": 3}),
}
ALL = {"dense": ("dense", {}), "score function": ("score_function", {}), **SPARSE}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def task():
    torch.manual_seed(0)
    model = BitVectorVAE(images(), bits=BITS, hidden_size=12, pixel_features=3, importance_samples=0).double()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    estimator = estimators.build("score_function", baseline="moving_average")
    for _ in range(
        15
    ):  # neither q nor the likelihood is flat; a log of a mean still has about the variance of the delta method
        optimizer.zero_grad()
        model(model.draw(32, generator()), estimator, generator())[0].backward()
        optimizer.step()
    return model


def joint_of(task, batch):
    return lambda latents: task.log_likelihood(latents, batch) + task.log_prior(latents)


def exact(task, batch):
    space = task.encode(batch)
    return joint_of(task, batch)(space.enumerate()).view(len(batch), -1).logsumexp(1).detach()


@pytest.mark.parametrize("case", ALL)
@torch.no_grad()
def test_it_agrees_with_the_enumeration_of_all_states_within_its_standard_error(task, case):
    """On average over repetitions, and as closely as it says itself."""
    name, options = ALL[case]
    estimator = estimators.build(name, **options).eval()
    batch = task.draw(5, generator(1))
    space = task.encode(batch)
    wanted = exact(task, batch)
    sampler = estimators.build("score_function").eval() if case == "dense" else estimator
    found = [evidence(sampler, space, joint_of(task, batch), RandomDraws(generator(seed)), 200) for seed in range(200)]
    values = torch.stack([each.value for each in found])
    declared = torch.stack([each.variance for each in found]).mean(0).sqrt()
    assert (declared > 0).all()
    # A log of a mean is below the log of its expectation, by half its variance.
    bias = declared.square() / 2
    assert ((values.mean(0) + bias - wanted).abs() < 5 * declared / math.sqrt(200) + bias).all()
    assert (values.std(0) / declared - 1).abs().max() < 0.35
    assert (declared < 0.5).all()


@pytest.mark.parametrize("case", ALL)
@torch.no_grad()
def test_with_as_many_samples_as_states_it_is_exact(task, case):
    name, options = ALL[case]
    batch = task.draw(5, generator(1))
    found = evidence(
        estimators.build(name, **options).eval(), task.encode(batch), joint_of(task, batch), RandomDraws(generator()), 2**BITS
    )
    assert torch.allclose(found.value, exact(task, batch), rtol=1e-12)
    assert not found.variance.any()


@pytest.mark.parametrize("case", ["dense", *SPARSE])
@torch.no_grad()
def test_beside_the_support_it_is_exact_in_the_limit(task, case):
    """Its two parts, with every state outside the support drawn once instead of at random: nothing is counted twice."""
    name, options = ALL[case]
    estimator = estimators.build(name, **options).eval()
    batch = task.draw(3, generator(1))
    space = task.encode(batch)

    class Everything(RandomDraws):
        def bernoulli(self, probabilities):
            states = space.all_states()
            return states[:, : probabilities.shape[1]].clone()

    found = evidence(estimator, space, joint_of(task, batch), Everything(), 2**BITS - 1)
    support = estimator.propose(space, RandomDraws(generator())).pairs
    # The last state is the only one that Everything leaves out; the mean is over those that are outside the support.
    everything = joint_of(task, batch)(space.enumerate()).view(3, -1)
    inside = torch.zeros_like(everything, dtype=torch.bool)
    inside[support.row, space.code(support.value.unsqueeze(0))[0]] = True
    drawn = ~inside
    drawn[:, -1] = False
    number = (~inside).sum(1)
    mean = torch.where(drawn, everything.exp(), 0).sum(1) / drawn.sum(1).clamp(min=1)
    wanted = (torch.where(inside, everything.exp(), 0).sum(1) + number * mean).log()
    assert torch.allclose(found.value, wanted, rtol=1e-12)


@torch.no_grad()
def test_no_state_of_the_support_is_drawn_and_all_others_are_equally_often(task):
    estimator = estimators.build("sparse_map").eval()
    space = task.encode(task.draw(4, generator(1)))
    support = estimator.propose(space, RandomDraws(generator())).pairs
    needed = torch.ones(4, dtype=torch.bool)
    states, outside = _uniform_outside(support, space, RandomDraws(generator()), 60_000, needed)
    codes = space.code(states)
    listed = space.code(support.value.unsqueeze(0))[0]
    for row in range(4):
        counts = torch.bincount(codes[row][outside[row]], minlength=2**BITS).double()
        inside = listed[support.row == row]
        assert not counts[inside].any()
        others = torch.ones(2**BITS, dtype=torch.bool)
        others[inside] = False
        expected = counts.sum() / others.sum()
        chi_square = ((counts[others] - expected).square() / expected).sum()
        assert chi_square < others.sum() + 5 * (2 * others.sum()).sqrt()


def test_the_variance_of_a_log_mean_follows_the_delta_method():
    noise = torch.rand(4000, 50, generator=generator(), dtype=torch.float64) + 0.5
    found = Evidence.mean(noise.log())
    assert found.value.std() / found.variance.mean().sqrt() == pytest.approx(1, abs=0.05)
    some = torch.arange(50).expand(4000, -1) < 20
    part = Evidence.mean(noise.log(), some)
    assert torch.allclose(part.value, noise[:, :20].mean(1).log())
    assert part.variance.mean() / found.variance.mean() == pytest.approx(2.5, rel=0.1)


def test_the_variance_of_few_samples_is_not_too_small():
    noise = 1 + 0.1 * (torch.rand(20_000, 3, generator=generator(), dtype=torch.float64) - 0.5)
    found = Evidence.mean(noise.log())
    assert found.variance.mean() / found.value.var() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("inside", [-3.0, 0.0, 3.0])
@torch.no_grad()
def test_the_variance_knows_how_much_of_the_evidence_is_summed_exactly(task, inside):
    """With a likelihood made up such that the support holds little, some, or nearly all of the evidence."""
    estimator = estimators.build("sparse_map").eval()
    space = task.encode(task.draw(1, generator(1)))
    listed = space.code(estimator.propose(space, RandomDraws(generator())).pairs.value.unsqueeze(0))[0]
    values = torch.randn(2**BITS, dtype=torch.float64, generator=generator(2))
    values[listed] += inside + 3

    def log_joint(latents):
        return values[space.code(latents.value.unsqueeze(0))[0]]

    found = [evidence(estimator, space, log_joint, RandomDraws(generator(seed)), 200) for seed in range(400)]
    spread = torch.stack([each.value for each in found]).std()
    declared = torch.stack([each.variance for each in found]).mean().sqrt()
    assert declared / spread == pytest.approx(1, abs=0.15)
    total = values.logsumexp(0)
    assert abs(torch.stack([each.value for each in found]).mean() - total) < 5 * spread / 20 + spread**2


@torch.no_grad()
def test_many_samples_are_decoded_in_parts(task, monkeypatch):
    estimator = estimators.build("score_function").eval()
    batch = task.draw(3, generator(1))
    decoded = []

    def log_joint(latents):
        decoded.append(len(latents))
        return joint_of(task, batch)(latents)

    whole = evidence(estimator, task.encode(batch), log_joint, RandomDraws(generator()), 100)
    monkeypatch.setattr("latent.models.evidence.PAIRS_AT_ONCE", 60)
    parts = evidence(estimator, task.encode(batch), log_joint, RandomDraws(generator()), 100)
    assert decoded == [300, 60, 60, 60, 60, 60]
    assert torch.allclose(whole.value, parts.value, rtol=1e-12)
    assert torch.allclose(whole.variance, parts.variance, rtol=1e-9)


@torch.no_grad()
def test_the_standard_error_of_the_mean_is_that_of_independent_images(task):
    estimator = estimators.build("sparse_map").eval()
    task.importance_samples = 50
    try:
        metrics = task.evaluate("test", estimator).metrics
    finally:
        task.importance_samples = 0
    assert metrics["bits_per_dim_standard_error"] > 0
    draws = [task.evidence(task.levels[task.rows["test"]], estimator, generator(seed), 50).value.mean() for seed in range(300)]
    assert metrics["log_likelihood_standard_error"] / torch.stack(draws).std() == pytest.approx(1, abs=0.4)


@torch.no_grad()
def test_the_most_likely_state_of_a_sparse_q_is_its_heaviest_one(task):
    batch = task.draw(6, generator(1))
    space = task.encode(batch)
    for name, options in SPARSE.values():
        estimator = estimators.build(name, **options).eval()
        found = expectation(estimator, space, RandomDraws(generator()))
        q = estimator.probabilities(space)
        codes = space.code(found.most_likely.value.unsqueeze(1))[:, 0]
        assert torch.equal(q.gather(1, codes.unsqueeze(1))[:, 0], q.amax(1))


@torch.no_grad()
def test_bits_per_dimension_are_those_of_the_test_images(task):
    task.importance_samples = 2**BITS
    try:
        metrics = task.evaluate("test", estimators.build("sparse_map").eval()).metrics
    finally:
        task.importance_samples = 0
    batch = task.levels[task.rows["test"]]
    assert metrics["log_likelihood"] == pytest.approx(float(exact(task, batch).mean()), rel=1e-9)
    assert metrics["bits_per_dim"] == pytest.approx(-metrics["log_likelihood"] / (9 * math.log(2)))
    assert metrics["log_likelihood"] > metrics["elbo"]
    assert metrics["bits_per_dim_standard_error"] == 0
