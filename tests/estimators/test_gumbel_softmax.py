"""Gumbel-softmax, whose noise is continuous: certified by quadrature where it is one-dimensional, and statistically."""

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from estimators import Categorical, GumbelSoftmax, RandomDraws

F64 = torch.float64
SCORE = 0.7  # of the first of two states; the other's is 0


def loss(value):
    """A nonlinear loss of a relaxed latent ``[N, 2]``, not symmetric in its states."""
    return torch.exp(value[:, 0]) + 2 * value[:, 1] ** 2 * value[:, 0] + 3 * value[:, 1]


def slope(y):
    """Derivative of ``loss([y, 1 - y])`` in y, by hand."""
    return np.exp(y) + 2 * (1 - y) ** 2 - 4 * y * (1 - y) - 3


class GivenNoise(RandomDraws):
    """Gumbel noise whose difference between the two states is given: with two states nothing else matters."""

    def __init__(self, difference):
        self.difference = difference

    def gumbel(self, like):
        return torch.stack([self.difference, torch.zeros_like(self.difference)], 1)


def nodes(count=400):
    """Gauss-Legendre nodes and weights of a uniform variable, either side of where a straight-through sample flips."""
    x, w = np.polynomial.legendre.leggauss(count)
    flip = 1 / (1 + np.exp(SCORE))  # uniform noise whose logistic quantile is -SCORE
    pieces = [(0, flip), (flip, 1)]
    u = np.concatenate([(b - a) / 2 * x + (a + b) / 2 for a, b in pieces])
    return torch.from_numpy(u), torch.from_numpy(np.concatenate([(b - a) / 2 * w for a, b in pieces]))


def expected_gradient(estimator):
    """The estimator's own expected gradient in the first score, integrated over its noise."""
    u, weights = nodes()
    scores = torch.tensor([SCORE, 0.0], dtype=F64).repeat(len(u), 1).requires_grad_()
    proposal = estimator.propose(Categorical(scores), GivenNoise(torch.logit(u)))
    estimate = estimator.combine(proposal, loss(proposal.pairs.value))
    return float(torch.autograd.grad(estimate.surrogate @ weights, scores)[0][:, 0].sum())


def oracle_gradient(temperature, straight_through):
    """The same integral, from the definition, by adaptive quadrature over logistic noise."""

    def integrand(noise):
        y = 1 / (1 + np.exp(-(SCORE + noise) / temperature))
        read = float(SCORE + noise > 0) if straight_through else y
        return slope(read) * y * (1 - y) / temperature * stats.logistic.pdf(noise)

    return sum(integrate.quad(integrand, a, b, epsabs=1e-13, limit=200)[0] for a, b in ((-60, -SCORE), (-SCORE, 60)))


def exact_gradient():
    q = 1 / (1 + np.exp(-SCORE))
    first, second = loss(torch.eye(2, dtype=F64)).tolist()
    return q * (1 - q) * (first - second)


@pytest.mark.parametrize("straight_through", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_expected_gradient_is_that_of_its_own_objective(temperature, straight_through):
    estimator = GumbelSoftmax(temperature=temperature, straight_through=straight_through)
    assert expected_gradient(estimator) == pytest.approx(oracle_gradient(temperature, straight_through), rel=1e-6)


@pytest.mark.parametrize(
    ("temperature", "straight_through", "bias"),
    [(1.0, False, -0.160033), (0.5, False, -0.043105), (1.0, True, -0.901311), (0.5, True, -0.884443)],
)
def test_exact_bias_is_pinned(temperature, straight_through, bias):
    estimator = GumbelSoftmax(temperature=temperature, straight_through=straight_through)
    relative = expected_gradient(estimator) / exact_gradient() - 1
    assert relative == pytest.approx(bias, abs=1e-4)


def z_score(estimator, planted=1.0, samples=400_000):
    """How many standard errors the mean gradient of random draws lies from the integral; ``planted`` scales it."""
    scores = torch.tensor([SCORE, 0.0], dtype=F64).repeat(samples, 1).requires_grad_()
    estimate = estimator(scores, lambda latents: loss(latents.value), generator=torch.Generator().manual_seed(7))
    gradients = planted * torch.autograd.grad(estimate.surrogate.sum(), scores)[0][:, 0]
    error = gradients.mean() - oracle_gradient(float(estimator.temperature()), estimator.straight_through)
    return float(error.abs() / (gradients.std() / samples**0.5))


@pytest.mark.parametrize("straight_through", [False, True])
def test_random_draws_have_the_expected_gradient(straight_through):
    # By chance alone a correct estimator would pass 4.5 standard errors in 7 of a million seeds; this one is fixed.
    estimator = GumbelSoftmax(straight_through=straight_through)
    assert z_score(estimator) < 4.5


@pytest.mark.parametrize("straight_through", [False, True])
def test_the_statistical_test_has_the_power_to_see_five_percent(straight_through):
    estimator = GumbelSoftmax(straight_through=straight_through)
    assert z_score(estimator, planted=1.05) > 4.5
    assert z_score(estimator, planted=0.95) > 4.5


def test_pathwise_gradient_of_many_states_is_autograd_of_the_objective():
    torch.manual_seed(0)
    scores = torch.randn(6, 5, dtype=F64, requires_grad=True)
    weight = torch.randn(5, dtype=F64)
    noise = RandomDraws(torch.Generator().manual_seed(3)).gumbel(scores)
    by_hand = torch.exp(((scores + noise) / 0.8).exp() / ((scores + noise) / 0.8).exp().sum(1, keepdim=True) @ weight)
    expected = torch.autograd.grad(by_hand.sum(), scores)[0]
    estimator = GumbelSoftmax(temperature=0.8)
    generator = torch.Generator().manual_seed(3)
    estimate = estimator(scores, lambda latents: torch.exp(latents.value @ weight), generator=generator)
    found = torch.autograd.grad(estimate.surrogate.sum(), scores)[0]
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_straight_through_decodes_one_hot_samples():
    estimator = GumbelSoftmax(straight_through=True)
    value = estimator.propose(Categorical(torch.randn(9, 4)), RandomDraws()).pairs.value
    assert torch.equal(value.detach().sort(1).values, torch.tensor([0.0, 0, 0, 1]).expand(9, 4))


def test_temperature_follows_its_schedule_in_training_only():
    estimator = GumbelSoftmax(temperature=1.0, minimum_temperature=0.5, decay_rate=0.1, update_every=2)
    scores = torch.zeros(1, 3)
    seen = []
    for _ in range(10):
        seen.append(float(estimator.temperature()))
        estimator(scores, lambda latents: latents.value[:, 0])
    assert seen == pytest.approx([max(0.5, np.exp(-0.1 * (t // 2 * 2))) for t in range(10)])
    before = float(estimator.temperature())
    estimator.eval()
    estimator(scores, lambda latents: latents.value[:, 0])
    assert int(estimator.temperature.steps) == 10
    assert float(estimator.temperature()) == before
