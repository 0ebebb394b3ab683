"""Every unbiased estimator has the exact gradient in expectation, every biased one its exact bias; planted faults do not."""

import math

import pytest
import torch

import estimators
from estimators import Categorical
from estimators.certificates.catalogue import WIDE, Entry, catalogue, pinned_biases, verdict
from estimators.certificates.certify import Certificate, _in_some_state, certify
from estimators.certificates.contract import contract_faults
from estimators.certificates.problems import LATENTS, Problem, family
from estimators.certificates.quality import Quality
from estimators.mappings import gini_entropy, shannon_entropy
from estimators.registry import REGISTRY
from tests.estimators.faults import BREACHES, FAULTS, SPACE_FAULTS, planted, with_estimate
from tests.estimators.quadrature import QUADRATURE, relative_biases

NEURAL = Problem("neural", "sparse")


def certificates(name, options, problems):
    estimator = estimators.build(name, **options)
    return [certify(estimator, problem) for problem in problems]


def certificates_of(entry):
    return certificates(entry.name, entry.options, entry.problems)


def written(entry):
    return f"{entry.label} of {entry.latent}"


def test_the_catalogue_covers_the_registry_on_every_latent_that_it_serves():
    for name, registered in REGISTRY.items():
        assert registered.certified
        for options in registered.certified:
            found = {entry.latent for entry in catalogue() if (entry.name, entry.options) == (name, options)}
            served = {
                latent
                for latent in LATENTS
                if not estimators.misfit(registered.make(**options), (problem := family(latent)[0]).space(problem.scores))
            }
            assert found - {WIDE} == served - {WIDE}
        for options in registered.certified_wide:
            assert Entry(name, options, WIDE) in catalogue()
    assert {entry.latent for entry in catalogue()} == set(LATENTS)
    for entry in catalogue():
        assert {problem.shape for problem in entry.problems} == {"flat", "sparse", "peaked"}
        assert {problem.latent for problem in entry.problems} == {entry.latent}


@pytest.mark.parametrize("entry", catalogue(), ids=written)
def test_every_estimator_is_what_it_declares(entry):
    found = certificates_of(entry)
    text, passed = verdict(entry, found)
    assert passed, text
    for certificate in found:
        assert certificate.method == ("sampling" if REGISTRY[entry.name].continuous else "enumeration")
        assert certificate.power >= 0.99
        if certificate.unbiased and certificate.method == "enumeration":
            assert max(certificate.encoder.bias, certificate.decoder.bias, certificate.value.bias) < 1e-10


BIASED = [entry for entry in catalogue() if entry.latent in pinned_biases().get(entry.label, {})]
# The bias of a normalised signal depends on the losses of the past: it is tested, not pinned.
NORMALISED = [entry for entry in catalogue() if entry.options.get("normalise_variance")]


def test_every_biased_estimator_is_pinned_on_each_of_its_problems():
    biased = [entry for entry in catalogue() if not estimators.build(entry.name, **entry.options).unbiased]
    assert [entry for entry in biased if entry not in BIASED] == NORMALISED
    for entry in BIASED:
        assert {problem.name for problem in entry.problems} <= pinned_biases()[entry.label][entry.latent].keys()


@pytest.mark.parametrize("entry", NORMALISED, ids=written)
def test_normalised_variance_shortens_the_gradient_by_its_scale_and_nothing_else(entry):
    estimator = estimators.build(entry.name, **entry.options)
    for problem, certificate in zip(entry.problems, certificates_of(entry), strict=True):
        scale = float(_in_some_state(estimator, problem).scale.square.average.sqrt().clamp(min=1))
        assert certificate.encoder.bias == pytest.approx(1 - 1 / scale, abs=1e-9)
        assert certificate.decoder.bias < 1e-10


@pytest.mark.parametrize("entry", BIASED, ids=written)
def test_pinned_biases_are_those_of_the_definition(entry):
    """Of finite draws all of them, and of continuous noise some, as many as time allows."""
    pinned = pinned_biases()[entry.label][entry.latent]
    problems = [problem for problem in family(entry.latent) if problem.name in pinned]
    chosen = problems
    if REGISTRY[entry.name].continuous:
        chosen = QUADRATURE[entry.latent].chosen(problems)
    for problem in chosen:
        assert relative_biases(entry, problem) == pytest.approx(pinned[problem.name], rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("latent", ["categorical", "bit_vector", "categoricals"])
def test_exact_estimators_have_no_variance(latent):
    problem = Problem("neural", "sparse", latent)
    for name, registered in REGISTRY.items():
        estimator = registered.make(**registered.certified[0])
        if estimator.marginalizes and not estimators.misfit(estimator, problem.space(problem.scores)):
            (certificate,) = certificates(name, registered.certified[0], [problem])
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


def test_an_estimator_that_asks_for_what_a_latent_cannot_do_is_refused():
    with pytest.raises(estimators.OptionError, match="a categorical latent cannot be told as scores of independent bits"):
        certify(estimators.build("arms"), NEURAL)


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
    assert verdict(Entry("rebar", {}, "categorical"), [weak]) == ("UNDECIDED, too much variance: p", False)


EVERY_FAULT = {f"{name}: {fault.mistake}": (name, fault) for name, faults in FAULTS.items() for fault in faults}


def test_every_estimator_has_faults_planted_in_it():
    assert set(FAULTS) == set(REGISTRY)
    assert all(len(faults) >= 2 for faults in FAULTS.values())
    assert sum(map(len, FAULTS.values())) == len(EVERY_FAULT)


def verdict_with(monkeypatch, name, fault):
    planted(monkeypatch, fault)
    entry = Entry(name, fault.options, fault.latent)
    problems = [Problem("neural", "flat", fault.latent), Problem("cubic", "sparse", fault.latent)]
    found = certificates(name, fault.options, problems)
    pins = pinned_biases().get(entry.label, {}).get(entry.latent, {})
    if not found[0].unbiased:  # a latent other than one categorical has pins of some problems only
        found = [certificate for certificate in found if certificate.problem in pins]
        assert found
    return verdict(entry, found)


@pytest.mark.parametrize("case", EVERY_FAULT)
def test_planted_faults_fail_the_certificate(monkeypatch, case):
    text, passed = verdict_with(monkeypatch, *EVERY_FAULT[case])
    assert not passed, text


@pytest.mark.parametrize("case", SPACE_FAULTS)
def test_planted_faults_of_spaces_and_relaxations_fail_the_certificate(monkeypatch, case):
    name, fault = SPACE_FAULTS[case]
    text, passed = verdict_with(monkeypatch, name, fault)
    assert not passed, text


@pytest.mark.parametrize("breach", BREACHES)
def test_breaches_of_the_contract_fail_the_certificate(monkeypatch, breach):
    name, change = BREACHES[breach]
    owner = type(estimators.build(name))
    monkeypatch.setattr(owner, "combine", with_estimate(change)(owner))
    latent = next(entry.latent for entry in catalogue() if entry.name == name)
    entry = Entry(name, {}, latent)
    text, passed = verdict(entry, certificates(name, {}, [Problem("neural", "flat", latent)]))
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
    for latent in ("categorical", "bit_vector", "categoricals"):
        entry = Entry("elsewhere", {}, latent)
        text, passed = verdict(entry, certificates("straight_through", {}, [Problem("neural", "sparse", latent)]))
        assert not passed
        assert text.startswith("NOT FINITE")


def test_noise_from_elsewhere_fails_the_certificate(monkeypatch):
    def sample(self, draws, samples):
        return torch.multinomial(self.probabilities.detach(), samples, replacement=True)

    monkeypatch.setattr(Categorical, "sample", sample)
    entry = Entry("score_function", {}, "categorical")
    text, passed = verdict(entry, certificates("score_function", {}, [NEURAL]))
    assert not passed
    assert "torch's own generator" in text


def test_baselines_reduce_the_variance_of_a_loss_far_from_zero():
    far = Problem("quadratic", "flat")
    plain = certificates("score_function", {"samples": 2}, [far])[0].encoder.variance
    leave_one_out = certificates("score_function", {"samples": 2, "baseline": "leave_one_out"}, [far])[0]
    assert leave_one_out.encoder.variance < plain / 2


def test_antithetic_samples_have_less_variance_than_independent_ones():
    for shape in ("flat", "sparse"):
        problem = Problem("neural", shape, "bit_vector")
        independent = certificates("score_function", {"samples": 2, "baseline": "leave_one_out"}, [problem])[0]
        assert certificates("disarm", {}, [problem])[0].encoder.variance < independent.encoder.variance


def test_variance_never_counts_for_less_than_nothing():
    for certificate in certificates("reinmax", {}, family("categorical")):
        for quality in (certificate.encoder, certificate.decoder):
            assert quality.error == pytest.approx(math.sqrt(quality.bias**2 + quality.variance), rel=1e-6, abs=1e-9)
