"""Every unbiased estimator has the exact gradient in expectation, every biased one its exact bias; planted faults do not."""

import inspect
import math
import textwrap

import pytest
import torch

import estimators
from estimators import Categorical, gumbel
from estimators.baselines import InputDependent
from estimators.certificates import pinned_biases
from estimators.certificates.catalogue import CATALOGUE, verdict
from estimators.certificates.certify import Certificate, _in_some_state, certify
from estimators.certificates.contract import contract_faults
from estimators.certificates.problems import FAMILY, Problem
from estimators.certificates.quality import Quality
from estimators.mappings import gini_entropy, shannon_entropy
from estimators.options import label
from tests.estimators.quadrature import relative_biases

NEURAL = Problem("neural", "sparse")
NORMALISED = ("score_function", {"baseline": "nvil", "normalise_variance": True})


def certificates(name, options, problems=FAMILY):
    estimator = estimators.build(name, **options)
    return [certify(estimator, estimator.space, problem) for problem in problems]


def test_the_catalogue_covers_the_registry():
    assert {name for name, _ in CATALOGUE} == set(estimators.ESTIMATORS)


@pytest.mark.parametrize(("name", "options"), CATALOGUE, ids=[label(*entry) for entry in CATALOGUE])
def test_every_estimator_is_what_it_declares(name, options):
    found = certificates(name, options)
    text, passed = verdict(name, options, found)
    assert passed, text
    sampled = {"rebar", "relax", "gumbel_softmax", "gumbel_rao", "binary_concrete"}
    for certificate in found:
        assert certificate.method == ("sampling" if name in sampled else "enumeration")
        assert certificate.power >= 0.99
        if certificate.unbiased and certificate.method == "enumeration":
            assert max(certificate.encoder.bias, certificate.decoder.bias, certificate.value.bias) < 1e-10


BIASED = [entry for entry in CATALOGUE if label(*entry) in pinned_biases.PINNED]


def test_every_biased_estimator_is_pinned():
    biased = [entry for entry in CATALOGUE if not estimators.build(entry[0], **entry[1]).unbiased]
    assert [entry for entry in biased if entry not in BIASED] == [NORMALISED]


def test_normalised_variance_shortens_the_gradient_by_its_scale_and_nothing_else():
    estimator = estimators.build(NORMALISED[0], **NORMALISED[1])
    for problem, certificate in zip(FAMILY, certificates(*NORMALISED), strict=True):
        scale = float(_in_some_state(estimator, problem).scale.square.average.sqrt().clamp(min=1))
        assert certificate.encoder.bias == pytest.approx(1 - 1 / scale, abs=1e-9)
        assert certificate.decoder.bias < 1e-10


@pytest.mark.parametrize(("name", "options"), BIASED, ids=[label(*entry) for entry in BIASED])
def test_pinned_biases_are_those_of_the_definition(name, options):
    for problem in FAMILY if name in ("reinmax", "straight_through") else FAMILY[3::4]:
        pinned = pinned_biases.PINNED[label(name, options)][problem.name]
        assert relative_biases(name, options, problem) == pytest.approx(pinned, rel=1e-6, abs=1e-9)


def test_exact_estimators_have_no_variance():
    for name, options in (("dense", {}), ("sparsemax", {}), ("entmax", {}), ("top_k_sparsemax", {}), ("sparse_map", {})):
        (certificate,) = certificates(name, options, [NEURAL])
        assert certificate.outcomes == 1
        assert certificate.encoder.variance == certificate.decoder.variance == 0
        assert certificate.encoder.cosine == pytest.approx(1)


def test_a_certificate_by_hand():
    """The score function of a loss of one state's indicator: its gradient is exactly known, and so is its variance."""
    (certificate,) = certificates("score_function", {}, [Problem("linear", "flat")])
    problem = Problem("linear", "flat")
    q = problem.scores.softmax(1)
    losses = problem.parameters + 1  # a . v + 1 of each one-hot v
    outcomes = losses.unsqueeze(2) * (torch.eye(3) - q.unsqueeze(1))  # [B, sample, score]
    mean = (q.unsqueeze(2) * outcomes).sum(1)
    exact = q * (losses - (q * losses).sum(1, keepdim=True))
    torch.testing.assert_close(mean, exact)
    variance = (q.unsqueeze(2) * (outcomes - mean.unsqueeze(1)).square()).sum()
    assert certificate.encoder.variance == pytest.approx(float(variance / exact.square().sum()))
    second = variance + (mean - exact).square().sum()
    assert certificate.encoder.error == pytest.approx(float(second.sqrt() / exact.norm()))
    assert certificate.calls == pytest.approx(1)
    assert certificate.outcomes == 9


def test_an_estimator_of_another_space_is_refused():
    with pytest.raises(ValueError, match="bit_vector latent, not for a categorical"):
        certify(estimators.build("arms"), Categorical, NEURAL)


def test_the_calibrated_test_has_the_power_that_it_states(monkeypatch):
    """A gradient 5 % too long fails; the unchanged one does not."""
    combine = estimators.Relax.combine

    def longer(self, proposal, losses):
        estimate = combine(self, proposal, losses)
        return estimate._replace(surrogate=1.05 * estimate.surrogate - 0.05 * estimate.surrogate.detach())

    (sound,) = certificates("rebar", {}, [NEURAL])
    assert sound.is_unbiased
    assert sound.power >= 0.99
    monkeypatch.setattr(estimators.Relax, "combine", longer)
    (faulty,) = certificates("rebar", {}, [NEURAL])
    assert not faulty.is_unbiased
    assert faulty.largest_z > 5


def test_a_verdict_needs_power():
    quality = Quality(0.0, 1.0, 1.0, 0.5, 0.1)
    weak = Certificate("p", "sampling", 100, True, quality, quality, quality, 1.0, largest_z=1.0, power=0.2)
    assert verdict("rebar", {}, [weak]) == ("UNDECIDED, too much variance: p", False)


SUM = "Estimate.of(proposal, {0}, {0})"
MEAN = SUM.format("proposal.latents.pad(proposal.weights * losses).mean(1)")
CONSTANT = SUM.format("proposal.latents.sum(proposal.weights.detach() * losses)")

# Faults, as edits of the source: the file and class or function, the text, and what a mistaken author would have written.
FAULTS = {
    "score function: the critic is not detached": (
        ("score_function", {"baseline": "self_critic"}, estimators.ScoreFunction.combine),
        ("advantage = detached - baseline.detach()", "advantage = detached - extra"),
    ),
    "score function: the average knows the present": (
        ("score_function", {"baseline": "moving_average"}, estimators.ScoreFunction.combine),
        ("detached = losses.detach()", "detached = losses.detach(); self.baseline.update(detached)"),
    ),
    "score function: a sample's own loss in its baseline": (
        ("score_function", {"baseline": "leave_one_out", "samples": 2}, estimators.ScoreFunction.combine),
        ("self.baseline(detached, extra.detach(), proposal.context)", "detached.mean(1, keepdim=True)"),
    ),
    "nvil: the baseline has seen the loss": (
        ("score_function", {"baseline": "nvil"}, InputDependent.forward),
        ("predicted.to(losses.dtype)", "0.5 * losses"),
    ),
    "nvil: the network's loss reaches the encoder": (
        ("score_function", {"baseline": "nvil"}, estimators.ScoreFunction.combine),
        ("advantage = detached - baseline.detach()", "advantage = losses - baseline.detach()"),
    ),
    "sum and sample: two baselines": (
        ("sum_and_sample", {"baseline": "moving_average"}, estimators.SumAndSample.combine),
        ("surrogate=value + latents", "surrogate=value + latents.sum(weights * 0.5 * weights.detach()) + latents"),
    ),
    "sum and sample: the sample has full weight": (
        ("sum_and_sample", {}, estimators.SumAndSample.propose),
        ("mass * ratio", "ratio"),
    ),
    "unordered set: importance weights of a sample with replacement": (
        ("unordered_set", {"samples": 2}, estimators.UnorderedSet.propose),
        ("(inside * ratios)[keep]", "(inside / inside.sum(1, keepdim=True))[keep]"),
    ),
    "unordered set: first-order ratios in the baseline": (
        ("unordered_set", {"samples": 2}, estimators.UnorderedSet.propose),
        ("pairs / singles.unsqueeze(2)", "(singles / completion[:, :1]).unsqueeze(1).expand(-1, k, -1)"),
    ),
    "vimco: a sample's own weight in its baseline": (
        ("vimco", {"samples": 2}, estimators.VIMCO.combine),
        ("torch.where(own, others, log_weights.unsqueeze(1))", "log_weights.unsqueeze(1).expand(-1, self.samples, -1)"),
    ),
    "vimco: q is forgotten in the weights": (
        ("vimco", {"samples": 2, "weights": "importance"}, estimators.VIMCO.combine),
        ("log_weights = log_weights - log_q", "pass"),
    ),
    "disarm: correlation ignored": (
        ("disarm", {}, estimators.ARMS.combine),
        ("torch.where(differ > 0, independent / differ, 0.0)", "torch.ones_like(p)"),
    ),
    "arms: the correlation of a pair, whatever the number of samples": (
        ("arms", {"samples": 3}, estimators.ARMS.combine),
        ("disagreement(scores, self.samples)", "disagreement(scores, 2)"),
    ),
    "reinmax: half a correction": (
        ("reinmax", {}, estimators.ReinMax.propose),
        ("softmax_linearised(finite, probabilities) / 2", "softmax_linearised(finite, probabilities)"),
    ),
    "reinmax: not the midpoint": (
        ("reinmax", {}, estimators.ReinMax.propose),
        ("(softened + sample) / 2", "softened"),
    ),
    "straight-through: no gradient": (
        ("straight_through", {}, estimators.StraightThrough.propose),
        ("(q.mean - q.mean.detach())", "0 * q.mean"),
    ),
    "straight-through bits: twice the gradient": (
        ("straight_through", {"space": "bit_vector"}, estimators.StraightThrough.propose),
        ("(q.mean - q.mean.detach())", "2 * (q.mean - q.mean.detach())"),
    ),
    "gumbel: half the noise": (
        ("gumbel_softmax", {}, estimators.GumbelSoftmax.propose),
        ("draws.gumbel(q.scores)", "draws.gumbel(q.scores) / 2"),
    ),
    "gumbel: the temperature is forgotten": (
        ("gumbel_softmax", {"straight_through": True}, estimators.GumbelSoftmax.propose),
        ("self.temperature().to(q.scores.dtype)", "2"),
    ),
    "gumbel-rao: noise that does not know the sample": (
        ("gumbel_rao", {}, estimators.GumbelRao.propose),
        ("conditional_gumbel(detached, state, noise)", "(detached + noise)"),
    ),
    "gumbel-rao: the noise is differentiated": (
        ("gumbel_rao", {}, estimators.GumbelRao.propose),
        ("- finite.detach()", "- 2 * finite + finite.detach()"),
    ),
    "binary concrete: the logits are rounded, not the noisy sample": (
        ("binary_concrete", {"straight_through": True}, estimators.BinaryConcrete.propose),
        ("(noisy > 0)", "(q.scores > 0)"),
    ),
    "binary concrete: Gumbel noise": (
        ("binary_concrete", {}, estimators.BinaryConcrete.propose),
        ("draws.logistic(q.scores)", "draws.gumbel(q.scores)"),
    ),
    "dense: constant weights": (
        ("dense", {}, estimators.Dense.propose),
        ("q.probabilities.flatten()", "q.probabilities.flatten().detach() + 0 * q.scores.sum()"),
    ),
    "dense: the mean for the sum": (
        ("dense", {"space": "bit_vector"}, estimators.Dense.combine),
        ("Estimate.marginal(proposal, losses)", MEAN),
    ),
    "sparsemax: constant weights": (
        ("sparsemax", {}, estimators.SparseMarginalization.propose),
        ("weights = q.flatten()", "weights = 0 * q.sum() + q.detach().flatten()"),
    ),
    "entmax: normalised again": (
        ("entmax", {}, estimators.SparseMarginalization.propose),
        ("sparse_entmax(space.scores, alpha)", "(space.all_states(), alpha_entmax(space.scores, alpha).softmax(1))"),
    ),
    "top-k: constant weights": (
        ("top_k_sparsemax", {"k": 2}, estimators.TopKSparsemax.combine),
        ("Estimate.marginal(proposal, losses)", CONSTANT),
    ),
    "top-k: states and weights in different orders": (
        ("top_k_sparsemax", {"k": 3, "space": "bit_vector"}, estimators.TopKSparsemax.propose),
        ("space.select(states, keep)", "space.select(states.flip(1), keep.flip(1))"),
    ),
    "bounded sparse: the sample is not weighted": (
        ("bounded_sparse", {"budget": 2}, estimators.BoundedSparse.propose),
        ("q * others / self.sampled", "q"),
    ),
    "bounded sparse: centred losses are not grown": (
        ("bounded_sparse", {"budget": 2}, estimators.BoundedSparse.combine),
        ("* torch.where(tail, latents.gather(grown), 1.0)", ""),
    ),
    "sparse map: the ends of intervals do not move": (
        ("sparse_map", {"budget": 2}, estimators.SparseMAP._distribution),
        ("arcs(start, marginals)", "arcs(start.detach(), marginals)"),
    ),
    "sparse map: constant weights": (
        ("sparse_map", {}, estimators.SparseMAP.combine),
        ("Estimate.marginal(proposal, losses)", CONSTANT),
    ),
    "rebar: the first draw for the second": (
        ("rebar", {}, estimators.Relax.propose),
        ("torch.stack([z, again[:, 0]], 1)", "torch.stack([z, z], 1)"),
    ),
    "relax: the control variate's own gradient is forgotten": (
        ("relax", {}, estimators.Relax.combine),
        ("+ pathwise", ""),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults_fail_the_certificate(monkeypatch, fault):
    (name, options, function), (right, wrong) = FAULTS[fault]
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(right) == 1, source
    scope: dict = {}
    exec("from __future__ import annotations\n" + source.replace(right, wrong), function.__globals__, scope)
    owner = function.__globals__[function.__qualname__.partition(".")[0]]
    monkeypatch.setattr(owner, function.__name__, scope[function.__name__])
    problems = [Problem("neural", "flat"), Problem("cubic", "sparse")]
    text, passed = verdict(name, options, certificates(name, options, problems))
    assert not passed, text


class Scaled(torch.autograd.Function):
    """The identity, with a gradient that is multiplied."""

    @staticmethod
    def forward(context, x, factor):
        context.factor = factor
        return x.clone()

    @staticmethod
    def backward(context, gradient):
        return gradient * context.factor, None


def with_estimate(change):
    """A combine whose estimate is changed; ``change`` gets the estimator, the proposal, the losses and the estimate."""

    def changed(owner):
        combine = owner.combine
        return lambda self, proposal, losses: change(self, proposal, losses, combine(self, proposal, losses))

    return changed


def own_batch_mean(self, proposal, losses, estimate):
    """A baseline of all losses of the batch, an example's own among them."""
    residual = proposal.memory["residual"] * proposal.memory["scores"]
    return estimate._replace(surrogate=estimate.surrogate - losses.detach().mean() * residual.sum(1))


def reaching_auxiliary(self, proposal, losses, estimate):
    return estimate._replace(auxiliary=losses.mean())


def other_examples_scores(self, proposal, losses, estimate):
    """A factor that is one where an example is alone, and hides from autograd."""
    entropy = estimate.entropy.detach()
    return estimate._replace(surrogate=estimate.surrogate * entropy / entropy.mean())


BREACHES = {
    "the others' scores in a factor": ("arms", other_examples_scores),
    "a value that holds the graph": ("score_function", lambda own, proposal, losses, e: e._replace(value=losses)),
    "a value that is not a number": ("score_function", lambda own, proposal, losses, e: e._replace(value=e.value * torch.nan)),
    "a decoder gradient that is not one": (
        "score_function",
        lambda own, proposal, losses, e: e._replace(surrogate=e.surrogate + 0 * Scaled.apply(losses, torch.nan)),
    ),
    "a sampled gradient that is not one": (
        "rebar",
        lambda own, proposal, losses, e: e._replace(
            surrogate=e.surrogate + 0 * Scaled.apply(losses.view(-1, 3)[:, 0], torch.nan)
        ),
    ),
    "wrong in training only": (
        "rebar",
        lambda own, proposal, losses, e: e._replace(surrogate=3 * e.surrogate) if own.training else e,
    ),
    "a wrong sampled value": ("rebar", lambda own, proposal, losses, e: e._replace(value=1.5 * e.value)),
    "its own loss in a batch mean": ("rebar", own_batch_mean),
    "twice the entropy": ("score_function", lambda own, proposal, losses, e: e._replace(entropy=2 * e.entropy)),
    "a constant entropy": ("score_function", lambda own, proposal, losses, e: e._replace(entropy=e.entropy.detach())),
    "free calls": ("score_function", lambda own, proposal, losses, e: e._replace(decoder_calls=0 * e.decoder_calls)),
    "no weights": ("score_function", lambda own, proposal, losses, e: e._replace(weights=0 * e.weights)),
    "one surrogate for all": ("score_function", lambda own, proposal, losses, e: e._replace(surrogate=e.surrogate.sum())),
    "an auxiliary loss of the decoder": ("score_function", reaching_auxiliary),
}


@pytest.mark.parametrize("breach", BREACHES)
def test_breaches_of_the_contract_fail_the_certificate(monkeypatch, breach):
    name, change = BREACHES[breach]
    owner = type(estimators.build(name))
    monkeypatch.setattr(owner, "combine", with_estimate(change)(owner))
    text, passed = verdict(name, {}, certificates(name, {}, [Problem("neural", "flat")]))
    assert not passed, text


@pytest.mark.parametrize(
    ("name", "attribute", "value", "words"),
    [
        ("score_function", "marginalizes", True, "marginalizes, but"),
        ("bounded_sparse", "marginalizes", True, "marginalizes, but"),
        ("straight_through", "relaxes", True, "relaxes and"),
        ("dense", "regulariser", staticmethod(gini_entropy), "regulariser"),
        ("bounded_sparse", "regulariser", staticmethod(shannon_entropy), "regulariser"),
    ],
)
def test_what_an_estimator_says_of_itself_is_checked(monkeypatch, name, attribute, value, words):
    estimator = estimators.build(name, **({"budget": 2} if name == "bounded_sparse" else {}))
    assert contract_faults(estimator, Problem("neural", "flat"), True) == ()
    object.__setattr__(estimator, attribute, value.__func__ if isinstance(value, staticmethod) else value)
    (fault,) = contract_faults(estimator, Problem("neural", "flat"), True)
    assert words in fault


def test_a_biased_estimator_that_is_not_finite_fails(monkeypatch):
    change = lambda own, proposal, losses, e: e._replace(surrogate=e.surrogate * torch.nan)  # noqa: E731
    monkeypatch.setattr(estimators.StraightThrough, "combine", with_estimate(change)(estimators.StraightThrough))
    for options in ({}, {"space": "bit_vector"}):
        text, passed = verdict("elsewhere", options, certificates("straight_through", options, [NEURAL]))
        assert not passed
        assert text.startswith("NOT FINITE")


def test_noise_from_elsewhere_fails_the_certificate(monkeypatch):
    def sample(self, draws, samples):
        return torch.multinomial(self.probabilities.detach(), samples, replacement=True)

    monkeypatch.setattr(Categorical, "sample", sample)
    text, passed = verdict("score_function", {}, certificates("score_function", {}, [NEURAL]))
    assert not passed
    assert "torch's own generator" in text


def test_conditional_noise_is_the_noise_given_its_argmax():
    """Perturbed scores drawn given a sample of q are distributed as perturbed scores are."""
    torch.manual_seed(0)
    scores = torch.tensor([[0.3, -1.0, 1.2]], dtype=torch.float64).log_softmax(-1).expand(200_000, -1)
    draws = estimators.RandomDraws(torch.Generator().manual_seed(1))
    plain = scores + draws.gumbel(scores)
    state = Categorical(scores).sample(draws, 1)
    again = gumbel.conditional_gumbel(scores.unsqueeze(1), state, draws.gumbel(scores).unsqueeze(1))[:, 0]
    assert torch.equal(again.argmax(1), state[:, 0])
    for transform in (torch.Tensor.exp, torch.tanh, torch.square):
        left, right = transform(plain / 4), transform(again / 4)
        error = (left.var(0) / len(left) + right.var(0) / len(right)).sqrt()
        assert ((left.mean(0) - right.mean(0)).abs() / error).max() < 4.5


def test_baselines_reduce_the_variance_of_a_loss_far_from_zero():
    far = Problem("quadratic", "flat")
    plain = certificates("score_function", {"samples": 2}, [far])[0].encoder.variance
    leave_one_out = certificates("score_function", {"samples": 2, "baseline": "leave_one_out"}, [far])[0]
    assert leave_one_out.encoder.variance < plain / 2


def test_antithetic_samples_have_less_variance_than_independent_ones():
    for shape in ("flat", "sparse"):
        problem = Problem("neural", shape)
        independent = certificates(
            "score_function", {"samples": 2, "baseline": "leave_one_out", "space": "bit_vector"}, [problem]
        )[0]
        assert certificates("disarm", {}, [problem])[0].encoder.variance < independent.encoder.variance


def test_variance_never_counts_for_less_than_nothing():
    for certificate in certificates("reinmax", {}):
        for quality in (certificate.encoder, certificate.decoder):
            assert quality.error == pytest.approx(math.sqrt(quality.bias**2 + quality.variance), rel=1e-6, abs=1e-9)
