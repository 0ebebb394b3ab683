"""REBAR and RELAX, integrated over their noise: their expected gradient is the exact one, without any statistical tolerance.

With z the noise that makes the sample b and z' the noise of the second draw, an estimate is A(z) + B(b, z'). Its expectation
is that of B for each b, at any z that gives it, and that of A over the z of each b: two integrals of few dimensions.
"""

import itertools

import pytest
import torch

import estimators
from estimators import Draws
from estimators.certificates.certify import _Case, _in_some_state
from estimators.certificates.problems import Problem
from tests.estimators.faults import Fault, planted
from tests.estimators.quadrature import half_line, noise_of_three

F64 = torch.float64
PROBLEMS = [Problem("neural", "flat"), Problem("cubic", "sparse"), Problem("quadratic", "peaked")]


class GivenNoise(Draws):
    """Gumbel noise that is written down: that of the first draw, then that of the second."""

    def __init__(self, *noise):
        self.noise = list(noise)

    def gumbel(self, like):
        return self.noise.pop(0).view(like.shape)

    def refuse(self, *arguments):
        raise AssertionError("no other noise is drawn")

    categorical = without_replacement = bernoulli = antithetic_bits = logistic = normal = refuse


def gradients(estimator, problem, example, first, second):
    """``[N, V + P]``: the gradients of an example with each of N pairs of noise ``[N, 3]``."""
    size = len(first)
    scores = problem.scores[example].repeat(size, 1).requires_grad_()
    parameters = problem.parameters[example].repeat(size, 1).requires_grad_()
    proposal = estimator.propose(problem.space(scores), GivenNoise(first, second))
    estimate = estimator.combine(proposal, problem.losses(proposal.pairs, parameters))
    return torch.cat(torch.autograd.grad(estimate.surrogate.sum(), [scores, parameters]), 1)


def mean_over(weights, values):
    return weights @ values / weights.sum()


def expected(estimator, problem, example):
    """``[V + P]``."""
    log_q = problem.scores[example].log_softmax(0)
    x, w = half_line(44)
    second = -torch.tensor(list(itertools.product(x, repeat=3)), dtype=F64).log()
    weights = torch.tensor(list(itertools.product(w, repeat=3)), dtype=F64).prod(1) * (-(-second).exp().sum(1)).exp()
    assert float(weights.sum()) == pytest.approx(1, abs=1e-8)
    total = 0
    for state, (z, density) in enumerate(noise_of_three(problem.scores[example])):
        fixed = torch.where(torch.arange(3) == state, 2.0, 0.0).to(F64) - log_q
        of_second = mean_over(weights, gradients(estimator, problem, example, fixed.repeat(len(second), 1), second))
        some = torch.zeros(len(z), 3, dtype=F64)
        of_first = mean_over(density, gradients(estimator, problem, example, z - log_q, some))
        once = gradients(estimator, problem, example, fixed[None], some[:1])[0]
        total = total + log_q[state].exp() * (of_second + of_first - once)
    return total


def largest_bias(name, problem):
    estimator = _in_some_state(estimators.build(name), problem)
    found = torch.stack([expected(estimator, problem, example) for example in (0, 1)])
    case = _Case(estimator, problem)
    pairs = zip(case.parts(found), case.parts(case.exact), strict=True)
    return max(float((mean - exact).norm() / exact.norm()) for mean, exact in pairs)


@pytest.mark.parametrize(
    ("name", "problem"),
    [*(("rebar", problem) for problem in PROBLEMS), *(("relax", problem) for problem in PROBLEMS[:2])],
    ids=lambda part: getattr(part, "name", part),
)
def test_the_expected_gradient_is_the_exact_one(name, problem):
    assert largest_bias(name, problem) < 1e-6  # what the rule leaves, not what the estimator has


@pytest.mark.parametrize("name", ["rebar", "relax"])
def test_a_control_variate_that_is_one_per_cent_off_is_seen(monkeypatch, name):
    planted(monkeypatch, Fault("", estimators.Relax.combine, "+ pathwise", "+ 1.01 * pathwise"))
    assert largest_bias(name, PROBLEMS[0]) > 1e-4
