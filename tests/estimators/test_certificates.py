"""Every unbiased estimator with finite draws has the exact gradient in expectation; planted faults do not."""

import pytest
import torch

import estimators
from estimators import Estimate, ScoreFunction
from estimators.baselines import MovingAverage
from tests.estimators.certificate import FLAT, PEAKED, Problem, certify

EXACT = 1e-10

# The alpha-entmax that is an estimator's q: 1 is softmax.
FINITE = {
    "score function": (1, "score_function", {}),
    "three samples": (1, "score_function", {"samples": 3}),
    "moving average": (1, "score_function", {"baseline": "moving_average"}),
    "self-critic": (1, "score_function", {"baseline": "self_critic"}),
    "sampled self-critic": (1, "score_function", {"baseline": "sampled_self_critic"}),
    "leave one out, 2": (1, "score_function", {"baseline": "leave_one_out", "samples": 2}),
    "leave one out, 3": (1, "score_function", {"baseline": "leave_one_out", "samples": 3}),
    "dense": (1, "dense", {}),
    "sparsemax": (2, "sparsemax", {}),
    "entmax 1.5": (1.5, "entmax", {}),
    "entmax 1.2": (1.2, "entmax", {"alpha": 1.2}),
    "entmax 2": (2, "entmax", {"alpha": 2.0}),
}


def test_every_unbiased_estimator_is_certified():
    certified = {name for _, name, _ in FINITE.values()}
    unbiased = {name for name in estimators.ESTIMATORS if estimators.build(name).unbiased}
    assert unbiased == certified


@pytest.mark.parametrize("scale", [FLAT, PEAKED])
@pytest.mark.parametrize("case", FINITE)
def test_expected_gradient_is_exact(case, scale):
    alpha, name, options = FINITE[case]
    estimator = estimators.build(name, **options)
    if options.get("baseline") == "moving_average":  # a state from the past
        estimator.baseline.update(torch.tensor([[2.0], [5.0]]))
    samples = options.get("samples", 1)
    problem = Problem(scale, batch_size=2 if samples < 3 else 1)
    certificate = certify(estimator, problem, alpha)
    assert certificate.worst < EXACT, certificate


def test_exact_estimators_have_no_variance():
    for name in ("dense", "sparsemax", "entmax"):
        alpha = {"dense": 1, "sparsemax": 2, "entmax": 1.5}[name]
        certificate = certify(estimators.build(name), Problem(PEAKED), alpha)
        assert certificate.outcomes == 1
        assert certificate.variance == 0


def test_baselines_reduce_the_variance_of_a_loss_far_from_zero():
    plain = certify(ScoreFunction(samples=2), Problem(FLAT)).variance
    assert certify(ScoreFunction(samples=2, baseline="leave_one_out"), Problem(FLAT)).variance < plain / 2


def with_undetached_critic(self, proposal, losses):
    losses, extra = losses.view(proposal.latents.batch_size, -1).tensor_split([self.samples], dim=1)
    surrogate = losses + (losses.detach() - extra) * proposal.log_probability.view_as(losses)
    return Estimate.of(proposal, surrogate=surrogate.mean(1), value=losses.mean(1))


def with_early_update(self, proposal, losses):
    losses = losses.view(proposal.latents.batch_size, -1)
    self.baseline.update(losses.detach())
    advantage = losses.detach() - self.baseline(losses.detach(), losses[:, :0])
    surrogate = losses + advantage * proposal.log_probability.view_as(losses)
    return Estimate.of(proposal, surrogate=surrogate.mean(1), value=losses.mean(1))


def with_its_own_loss_as_baseline(self, proposal, losses):
    losses = losses.view(proposal.latents.batch_size, -1)
    advantage = losses.detach() - losses.detach().mean(1, keepdim=True)
    surrogate = losses + advantage * proposal.log_probability.view_as(losses)
    return Estimate.of(proposal, surrogate=surrogate.mean(1), value=losses.mean(1))


@pytest.mark.parametrize(
    ("fault", "options", "wrong"),
    [
        (with_undetached_critic, {"baseline": "self_critic"}, "decoder"),
        (with_undetached_critic, {"baseline": "sampled_self_critic"}, "decoder"),
        (with_early_update, {"baseline": "moving_average"}, "encoder"),
        (with_its_own_loss_as_baseline, {"baseline": "leave_one_out", "samples": 2}, "encoder"),
    ],
    ids=["undetached self-critic", "undetached sampled critic", "early update", "own loss in the mean"],
)
def test_planted_faults_fail_the_certificate(monkeypatch, fault, options, wrong):
    monkeypatch.setattr(ScoreFunction, "combine", fault)
    certificate = certify(ScoreFunction(**options), Problem(FLAT))
    assert getattr(certificate, wrong) > 1e-2, certificate


@pytest.mark.parametrize("name", ["dense", "sparsemax"])
def test_a_planted_weight_fault_fails_the_certificate(monkeypatch, name):
    estimator = estimators.build(name)
    propose = type(estimator).propose

    def detached(self, scores, draws, context=None):
        proposal = propose(self, scores, draws, context)
        object.__setattr__(proposal, "weights", proposal.weights.detach() + 0 * scores.sum())
        return proposal

    monkeypatch.setattr(type(estimator), "propose", detached)
    certificate = certify(estimator, Problem(FLAT), {"dense": 1, "sparsemax": 2}[name])
    assert certificate.encoder > 0.5


def test_moving_average_reads_the_past_and_forgets():
    baseline = MovingAverage(decay=0.5)
    nothing = torch.zeros(2, 0)
    assert float(baseline(torch.ones(2, 1), nothing)) == 0
    baseline.update(torch.tensor([[2.0], [4.0]]))
    assert float(baseline(torch.ones(2, 1), nothing)) == 3
    baseline.update(torch.tensor([[9.0], [9.0]]))
    assert float(baseline(torch.ones(2, 1), nothing)) == pytest.approx((9 + 0.5 * 3) / 1.5)
    mean = MovingAverage(decay=1.0)
    for value in (1.0, 2.0, 6.0):
        mean.update(torch.full((2, 1), value))
    assert float(mean(torch.ones(2, 1), nothing)) == 3


def test_the_self_critic_is_the_mode_and_sampled_one_a_sample():
    scores = torch.tensor([[0.0, 2.0, 1.0]], dtype=torch.float64)

    def second(name):
        estimator = ScoreFunction(baseline=name)
        outcomes = estimators.enumerate_outcomes(lambda draws: int(estimator.propose(scores, draws).latents.index[1]))
        distribution = torch.zeros(3, dtype=torch.float64)
        for probability, state in outcomes:
            distribution[state] += probability
        return distribution

    assert second("self_critic").tolist() == pytest.approx([0, 1, 0], abs=1e-15)
    assert second("sampled_self_critic").tolist() == pytest.approx(scores[0].softmax(0).tolist(), abs=1e-15)
