"""The bound: its terms, its gradient against the exact one, and every choice of divergence."""

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence
from torch.distributions.relaxed_categorical import ExpRelaxedCategorical

import estimators
from estimators import BitVector, Categorical, Categoricals, Latents, OptionError, RandomDraws, Relaxation, misfit
from latent.models import VAE, BitVectorVAE, Gaussian, Reparameterization
from latent.models.elbo import ClosedForm, Prior, Relaxed
from latent.models.gaussian import standard_normal_log_density
from tests.models.conftest import images

SIZES = {"latent_size": 5, "hidden_size": 7, "importance_samples": 0}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def model(kind=VAE, seed=0, **options):
    torch.manual_seed(seed)
    sizes = SIZES if kind is VAE else {"bits": 4, "hidden_size": 6, "pixel_features": 2, "importance_samples": 0}
    return kind(images(), **sizes | options).double()


def exact_negative_elbo(task, batch, probabilities, beta=1.0):
    """``[B]``, from all states, in plain words."""
    space = task.encode(batch)
    everything = space.enumerate()
    log_likelihood = task.log_likelihood(everything, batch).view_as(probabilities)
    log_prior = task.log_prior(everything).view_as(probabilities)
    inside = torch.where(probabilities > 0, probabilities, 1).log()
    return (probabilities * (-log_likelihood - beta * log_prior + beta * inside)).sum(1)


def learn_a_prior(task):
    with torch.no_grad():
        task.prior.scores.copy_(torch.linspace(-1, 1, len(task.prior.scores)))
    return task


SEVERAL = {"latent": "categoricals", "latent_size": 2, "categories": 3}
CASES = [
    (VAE, {"prior": "learned"}, "dense", {}),
    (VAE, {"prior": "learned", "beta": 0.3}, "sparsemax", {}),
    (VAE, {}, "entmax", {}),
    (VAE, {"latent": "bit_vector", "prior": "learned"}, "dense", {}),
    (VAE, {"latent": "bit_vector", "beta": 2.0, "prior": "learned"}, "sparse_map", {}),
    (VAE, SEVERAL | {"prior": "learned"}, "dense", {}),
    (VAE, SEVERAL | {"prior": "learned", "beta": 0.5}, "sparsemax", {}),
    (VAE, SEVERAL, "top_k_sparsemax", {"k": 5}),
    (BitVectorVAE, {}, "top_k_sparsemax", {"k": 5}),
    (BitVectorVAE, {}, "sparse_map", {"budget": 2}),
]


@pytest.mark.parametrize(("kind", "options", "name", "settings"), CASES)
def test_the_objective_of_an_exact_estimator_is_the_negative_elbo_with_its_gradient(kind, options, name, settings):
    task = model(kind, **options)
    if options.get("prior") == "learned":
        learn_a_prior(task)
    estimator = estimators.build(name, **settings)
    batch = task.draw(6, generator())
    objective, metrics = task(batch, estimator, generator())
    exact = exact_negative_elbo(task, batch, estimator.probabilities(task.encode(batch)), options.get("beta", 1.0))
    assert torch.allclose(metrics["loss"], exact)
    parameters = [each for each in task.parameters() if each.requires_grad]
    found = torch.autograd.grad(objective, parameters, allow_unused=True, materialize_grads=True)
    wanted = torch.autograd.grad(exact.mean(), parameters, allow_unused=True, materialize_grads=True)
    for left, right in zip(found, wanted, strict=True):
        assert torch.allclose(left, right, atol=1e-10)
    assert torch.allclose(metrics["elbo"], -(metrics["distortion"] + metrics["rate"]))
    assert (metrics["rate"] > -1e-9).all()


def test_the_evaluation_is_the_exact_expectation_for_every_estimator_whose_states_can_be_enumerated():
    task = model()
    for name in estimators.ESTIMATORS:
        estimator = estimators.build(name).eval()
        if misfit(estimator, task.latent()):
            continue
        metrics = task.evaluate("val", estimator).metrics
        batch = torch.cat([batch[0] for batch, _ in task._batches(task.rows["validation"], 100)])
        exact = exact_negative_elbo(task, batch, estimator.probabilities(task.encode(batch)))
        assert metrics["elbo"] == pytest.approx(-float(exact.mean().detach()), rel=1e-9), name


def test_the_importance_weighted_bound_is_tighter_than_the_elbo_and_below_the_evidence():
    task = model()
    batch = task.draw(4, generator())
    space = task.encode(batch)
    losses = -(task.log_likelihood(space.enumerate(), batch) + task.log_prior(space.enumerate())).view(4, -1)
    evidence = (-losses).logsumexp(1)
    bound = estimators.build("vimco", samples=3, weights="importance")
    exact = -bound.objective(space.probabilities, losses)
    elbo = -exact_negative_elbo(task, batch, space.probabilities)
    assert ((elbo < exact) & (exact < evidence)).all()
    draws = [task(batch, bound, generator(seed))[1]["loss"] for seed in range(3000)]
    mean, error = torch.stack(draws).mean(0), torch.stack(draws).std(0) / math.sqrt(3000)
    assert ((mean + exact).abs() < 5 * error).all()


def test_the_multi_sample_bound_without_the_entropy_is_refused():
    with pytest.raises(OptionError, match=r"name: .*weights: importance"):
        model().check_estimator(estimators.build("vimco"))
    model().check_estimator(estimators.build("vimco", weights="importance"))
    with pytest.raises(OptionError, match="beta: must be 1"):
        model(beta=2.0).check_estimator(estimators.build("vimco", weights="importance"))


def test_the_closed_form_divergence_of_a_gaussian_is_that_of_torch_and_of_sampling():
    scores = torch.randn(5, 8, dtype=torch.float64, generator=generator())
    q = Gaussian(scores)
    found = q.divergence()
    mean, deviation = scores[:, :4], (scores[:, 4:] / 2).exp()
    assert torch.allclose(found, kl_divergence(Normal(mean, deviation), Normal(0.0, 1.0)).sum(1))
    samples = q.sample(RandomDraws(generator()), 200_000)
    ratios = q.log_probability(samples) - standard_normal_log_density(samples)
    error = ratios.std(1) / math.sqrt(200_000)
    assert ((ratios.mean(1) - found).abs() < 5 * error).all()
    assert (error < 0.02 * found).all()
    assert torch.allclose(q.entropy(), Normal(mean, deviation).entropy().sum(1))


def test_reparameterisation_is_unbiased_on_losses_whose_gradient_is_known():
    scores = torch.randn(1, 4, dtype=torch.float64, generator=generator()).requires_grad_()
    center = torch.tensor([0.3, -1.2], dtype=torch.float64)
    estimator = Reparameterization(samples=20_000)
    estimate = estimator(Gaussian(scores), lambda z: (z.value - center).square().sum(1), generator=generator())
    (found,) = torch.autograd.grad(estimate.surrogate.sum(), scores)
    # E |mu + sigma e - c|^2 = |mu - c|^2 + sum sigma^2
    mean, log_variance = scores.detach().chunk(2, 1)
    exact = torch.cat([2 * (mean - center), log_variance.exp()], 1)
    assert torch.allclose(found, exact, rtol=0.05)
    wrong = estimator(Gaussian(scores), lambda z: 1.2 * (z.value - center).square().sum(1))
    planted = torch.autograd.grad(wrong.surrogate.sum(), scores)
    assert not torch.allclose(planted[0], exact, rtol=0.05)
    assert estimate.decoder_calls.tolist() == [20_000]
    with pytest.raises(TypeError, match="a gaussian latent cannot enumerate its states"):
        estimator.probabilities(Gaussian(scores))
    with pytest.raises(OptionError, match="at least 1"):
        Reparameterization(samples=0)
    with pytest.raises(FloatingPointError):
        Gaussian(torch.full((1, 2), torch.nan))


@pytest.mark.parametrize("space", [Categorical, BitVector, lambda scores: Categoricals(scores, 2)])
def test_the_relaxed_divergence_is_zero_on_average_where_q_is_the_prior_and_positive_elsewhere(space):
    prior = Prior(space, 4)
    scores = torch.zeros(4000, 4)
    estimator = estimators.build("gumbel_softmax", temperature=0.7)

    def divergence(shift, temperature):
        moved = space(scores + shift * torch.tensor([1.0, 0.0, -1.0, 0.5]))
        latents = estimator.propose(moved, RandomDraws(generator())).pairs
        return Relaxed(prior, temperature).of_pairs(latents, moved)

    assert torch.allclose(divergence(0.0, 0.7), torch.zeros(4000), atol=1e-4)
    for shift, temperature in ((1.5, 0.7), (0.0, 0.4)):
        ratios = divergence(shift, temperature)
        assert ratios.mean() > 5 * ratios.std() / math.sqrt(len(ratios))


def test_the_choice_of_divergence_is_what_the_objective_uses():
    estimator = estimators.build("gumbel_softmax", temperature=0.7)
    for kl in ("closed_form", "relaxed"):
        task = model(kl=kl, prior_temperature=0.4)
        batch = task.draw(5, generator())
        _, metrics = task(batch, estimator, generator(3))
        q = task.encode(batch)
        scores = q.scores
        latents = estimator.propose(q, RandomDraws(generator(3))).pairs
        if kl == "closed_form":
            rate = math.log(5) - q.entropy()
        else:
            u = latents.relaxation.logits.log_softmax(1)
            tau = torch.tensor(0.7, dtype=torch.float64)
            posterior = ExpRelaxedCategorical(tau, logits=scores).log_prob(u)
            rate = posterior - ExpRelaxedCategorical(tau * 4 / 7, logits=torch.zeros(5).double()).log_prob(u)
        assert torch.allclose(metrics["rate"], rate)
        assert torch.allclose(metrics["loss"], rate - task.log_likelihood(latents, batch))
    for name in ("gumbel_rao", "dense"):
        with pytest.raises(OptionError, match="relaxed"):
            model(kl="relaxed").check_estimator(estimators.build(name))
    with pytest.raises(OptionError, match="relaxed"):
        model(kl="relaxed").check_estimator(estimators.build("gumbel_softmax", straight_through=True))


def test_a_prior_is_normalised_and_extends_linearly():
    for space in (Categorical, lambda scores: Categoricals(scores, 2), BitVector):
        prior = Prior(space, 4, learned=True)
        with torch.no_grad():
            prior.scores.copy_(torch.tensor([0.3, -1.0, 2.0, 0.0]))
        everything = space(torch.zeros(1, 4)).enumerate()
        assert torch.allclose(prior.log_probability(everything).exp().sum(), torch.ones(()))
        as_vectors = Latents.regular_vectors(everything.value.unsqueeze(0))
        assert torch.allclose(prior.log_probability(as_vectors), prior.log_probability(everything))
    uniform = Prior(BitVector, 4)
    assert not list(uniform.parameters())
    assert torch.allclose(uniform.log_probability(everything), torch.full((16,), -4 * math.log(2)))
    terms = ClosedForm(uniform).of_pairs(
        Latents.relaxed(torch.full((2, 4), 0.5), Relaxation(torch.zeros(2, 4), torch.ones(()))), BitVector(torch.zeros(2, 4))
    )
    assert torch.allclose(terms, torch.full((2,), 4 * math.log(2)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latent_size": 0}, "latent_size: must be at least 1"),
        ({"prior_temperature": 0.0}, "prior_temperature: must be above 0"),
        ({"beta": -1.0}, "beta: must not be negative"),
        ({"latent": "gaussian", "prior": "learned"}, "prior: .*gaussian"),
        ({"latent": "gaussian", "kl": "relaxed"}, "kl: .*gaussian"),
        ({"importance_images": -1}, "importance_images: must not be negative"),
    ],
)
def test_options_out_of_range_are_named(options, message):
    with pytest.raises(OptionError, match=message):
        model(**options)
