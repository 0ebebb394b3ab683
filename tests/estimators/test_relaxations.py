"""Noisy scores: their samples, the noise given a sample, and the densities of what they relax to."""

import math

import pytest
import torch
from scipy import integrate, stats
from torch.distributions.relaxed_bernoulli import LogitRelaxedBernoulli
from torch.distributions.relaxed_categorical import ExpRelaxedCategorical

from estimators import BitVector, Categorical, Categoricals, RandomDraws
from estimators.relaxations import binary_concrete_log_density, concrete_log_density, conditional_gumbel

F64 = torch.float64
SCORES = torch.tensor([[0.3, -1.0, 1.2, 0.4, 0.0, -0.5]], dtype=F64)
SPACES = {
    "categorical": Categorical(SCORES[:, :3]),
    "bits": BitVector(SCORES[:, :3]),
    "categoricals": Categoricals(SCORES, 3),
    "masked categorical": Categorical(SCORES[:, :4].index_fill(1, torch.tensor([1]), -torch.inf)),
    "masked bits": BitVector(SCORES[:, :3].index_fill(1, torch.tensor([1]), -torch.inf)),
    "masked categoricals": Categoricals(SCORES.index_fill(1, torch.tensor([1]), -torch.inf), 3),
}
MANY = 100_000


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(params=SPACES)
def space(request):
    return SPACES[request.param]


def many(space, number=MANY):
    return space.rebuilt(space.leaf.expand(number, -1))


def codes(space, vectors):
    """The state of each of these vectors ``[N, V]``."""
    every = space.vectors(space.all_states())[0]
    return (vectors @ every.t() * 2 - every.sum(1)).sub(vectors.sum(1, keepdim=True)).argmax(1)


def test_rounded_noisy_scores_are_samples_of_q(space):
    batch = many(space)
    noisy = batch.noisy_scores()
    hard = noisy.round(noisy.perturb(RandomDraws(generator())))
    counts = torch.bincount(codes(space, hard), minlength=int(space.states)).numpy()
    q = space.probabilities[0].numpy()
    assert not counts[q == 0].any()
    assert stats.chisquare(counts[q > 0], q[q > 0] * MANY).pvalue > 1e-4


def test_noise_given_a_sample_rounds_to_it_and_is_noise_all_told(space):
    """Perturbed scores drawn given a sample of q are distributed as perturbed scores are, in what q depends on."""
    batch = many(space)
    noisy, draws = batch.noisy_scores(), RandomDraws(generator())
    sample = batch.vectors(batch.sample(draws, 1))[:, 0]
    given = noisy.perturb_given(draws, sample, 3)
    assert given.shape == (MANY, 3, space.leaf.shape[1])
    assert torch.equal(noisy.round(given), sample.unsqueeze(1).expand(-1, 3, -1))
    plain = noisy.features(noisy.normalised().perturb(draws))
    again = noisy.features(given[:, 1])
    for transform in (lambda x: (x / 4).exp(), torch.tanh, lambda x: (x / 4).square(), lambda x: x * x.roll(1, 1)):
        left, right = transform(plain), transform(again)
        error = (left.var(0) / MANY + right.var(0) / MANY).sqrt()
        free = error > 0
        assert ((left.mean(0) - right.mean(0)).abs()[free] / error[free]).max() < 4.5
        assert torch.equal(left[:, ~free], right[:, ~free])
    reflected = -given[:, 1] if isinstance(space, BitVector) else given[:, 1].roll(1, 1)
    assert not torch.equal(noisy.round(reflected), sample)


def test_conditional_gumbel_noise_has_the_known_joint_distribution():
    r"""P(z_i < z_k + d_i for all i | argmax k) = 1 / (q_k + sum_i q_i e^{-d_i}), by an integral over the noise of the top."""
    log_q = SCORES[:, :3].log_softmax(1)
    q = log_q.exp()[0].tolist()
    top = 1
    for limits in ((-0.3, -1.2), (-2.0, -0.1), (-1e-9, -1e-9)):
        others = [0, 2]

        def at(noise, limits=limits, others=others):
            """P(both differences are below their limits | the top's noise), times the density of that noise."""
            place = torch.tensor([top])
            share = 1.0
            for i, limit in zip(others, limits, strict=True):
                # The difference rises with the noise of i: the limit is passed at one point, found by bisection.
                low, high = -200.0, 200.0
                for _ in range(60):
                    middle = (low + high) / 2
                    given = torch.tensor([[noise if j == top else middle for j in range(3)]], dtype=F64)
                    z = conditional_gumbel(log_q, place, given)[0]
                    low, high = (middle, high) if float(z[i] - z[top]) < limit else (low, middle)
                share *= float(stats.gumbel_r.cdf(low))
            return share * float(stats.gumbel_r.pdf(noise))

        found = integrate.fixed_quad(lambda x, at=at: [at(each) for each in x], -4, 25, n=60)[0]
        wanted = 1 / (q[top] + sum(q[i] * math.exp(-limit) for i, limit in zip(others, limits, strict=True)))
        assert found == pytest.approx(wanted, rel=1e-5)


def test_a_constant_added_to_scores_changes_nothing_that_q_does_not_depend_on():
    for plain, shifted in (
        (Categorical(SCORES), Categorical(SCORES + 7)),
        (Categoricals(SCORES, 3), Categoricals(SCORES + torch.tensor([7.0] * 3 + [-2.0] * 3), 3)),
    ):
        left, right = plain.noisy_scores(), shifted.noisy_scores()
        state = plain.vectors(plain.argmax())[:, 0]
        torch.testing.assert_close(left.mean, right.mean)
        pairs = [(each.perturb(RandomDraws(generator())), each) for each in (left, right)]
        for method in ("features", "centred", "squash"):
            torch.testing.assert_close(*(getattr(each, method)(noisy) for noisy, each in pairs))
        torch.testing.assert_close(*(each.perturb_given(RandomDraws(generator()), state, 2) for each in (left, right)))
        logits = torch.randn(1, 6, generator=generator()).double()
        torch.testing.assert_close(*(each.log_density(logits, 0.6) for each in (left, right)))


def test_the_linearised_function_has_the_jacobian_of_the_mean(space):
    noisy = space.noisy_scores()
    scores = noisy.scores.clone().requires_grad_()
    mean = noisy.of(scores).mean
    slope = torch.randn(mean.shape, dtype=F64, generator=generator())
    (wanted,) = torch.autograd.grad((mean * slope).sum(), scores)
    linear = noisy.of(scores).linearised(mean.detach())
    (found,) = torch.autograd.grad((linear * slope).sum(), scores)
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)


def test_log_probabilities_extend_linearly(space):
    noisy, every = space.noisy_scores(), space.vectors(space.all_states())
    q = space.probabilities
    possible = q > 0
    found = noisy.of(space.leaf.unsqueeze(1)).extended_log_probability(every)
    torch.testing.assert_close(found[possible].exp(), q[possible])
    assert (found[~possible] < -1e29).all()
    if possible.all():
        middle = noisy.of(space.leaf.unsqueeze(1)).extended_log_probability(every.mean(1, keepdim=True))
        torch.testing.assert_close(middle[0, 0], found[0].mean())


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_relaxed_densities_are_those_of_torch_variable_by_variable(temperature):
    scores = torch.randn(5, 6, dtype=F64, generator=generator())
    logits = 3 * torch.randn(5, 6, dtype=F64, generator=generator(1))
    tau = torch.tensor(temperature, dtype=F64)
    of_one = ExpRelaxedCategorical(tau, logits=scores).log_prob(logits.log_softmax(1))
    torch.testing.assert_close(Categorical(scores).noisy_scores().log_density(logits, tau), of_one)
    torch.testing.assert_close(concrete_log_density(scores, logits, tau), of_one)
    several = ExpRelaxedCategorical(tau, logits=scores.view(5, 2, 3)).log_prob(logits.view(5, 2, 3).log_softmax(2)).sum(1)
    torch.testing.assert_close(Categoricals(scores, 3).noisy_scores().log_density(logits, temperature), several)
    bits = LogitRelaxedBernoulli(tau, logits=scores).log_prob(logits).sum(1)
    torch.testing.assert_close(BitVector(scores).noisy_scores().log_density(logits, tau), bits)
    torch.testing.assert_close(binary_concrete_log_density(scores, logits, temperature), bits)
    for space in (Categorical(scores), Categoricals(scores, 3), BitVector(scores)):  # where a relaxed vector itself is 0 or 1
        assert torch.isfinite(space.noisy_scores().log_density(500 * logits, tau)).all()
