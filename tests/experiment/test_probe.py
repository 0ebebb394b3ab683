"""The gradient probe: what it measures, and that a run does not notice it."""

import copy
import json
import logging
import math

import numpy as np
import pytest
import torch
from torch import nn

import estimators
from estimators import Dense
from latent.experiment import probe as probing
from latent.experiment import runner, training
from latent.experiment.configuration import load
from latent.experiment.experiment import prepare
from latent.experiment.probe import Probe
from tests.experiment.test_run import assert_same_run, assert_same_tree, call, failing_at, rows, run_directory, untimed

PROBES = ["train.probe_every=4", "train.probe_examples=3", "train.probe_draws=3"]
SHORT = ["train.steps=22", "train.evaluate_every=10"]
STATEFUL = {
    "moving average": ["estimator.name=score_function", "estimator.baseline=moving_average"],
    "annealed temperature": ["estimator.name=gumbel_softmax", "estimator.update_every=3", "estimator.decay_rate=0.01"],
    "own parameters": ["estimator.name=relax", "estimator.hidden_size=4"],
}


def checkpoint(directory):
    return torch.load(directory / "checkpoint.pt", weights_only=True)["state"]["training"]


def unprobed(record):
    return {key: value for key, value in untimed(record).items() if not key.startswith("probe/")}


def probed(directory):
    return [row for row in rows(directory) if "probe/bias" in row]


@pytest.mark.parametrize("estimator", [*STATEFUL.values(), ["estimator.name=sparsemax"]], ids=[*STATEFUL, "stateless"])
def test_a_run_does_not_notice_its_probes(tiny, tmp_path, estimator):
    for out, options in (("without", []), ("with", PROBES)):
        assert call(tiny, "--out", tmp_path / out, *SHORT, *estimator, *options).exit_code == 0
    without, with_probes = (run_directory(tmp_path / out) for out in ("without", "with"))
    assert without.name == with_probes.name
    assert [row["step"] for row in probed(with_probes)] == [4, 8, 12, 16, 20]
    alone = [row for row in rows(with_probes) if unprobed(row).keys() == {"step", "total_decoder_calls"}]
    assert [row["step"] for row in alone] == [4, 8, 12, 16]
    assert [unprobed(row) for row in rows(with_probes) if row not in alone] == [untimed(row) for row in rows(without)]
    assert_same_tree(checkpoint(without), checkpoint(with_probes))
    assert unprobed(json.loads((with_probes / "done.json").read_text())) == untimed(
        json.loads((without / "done.json").read_text())
    )


def everything(run):
    """All that a probe must leave as it is."""
    state = {
        "state": run.state(),
        "default": torch.get_rng_state(),
        "modes": [module.training for module in run.objective.modules()],
        "gradients": [parameter.grad for parameter in run.objective.parameters()],
        "buffers": dict(run.objective.named_buffers()),
    }
    return copy.deepcopy(state)


class Counter(nn.Module):
    """Counts its calls, whatever the mode."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return x


@pytest.mark.parametrize("train", [True, False])
def test_a_probe_leaves_modes_buffers_gradients_and_generators(tiny, tmp_path, train):
    experiment = prepare(load(tiny, ["estimator.name=gumbel_softmax"]), tmp_path)
    task = experiment.objective.task
    task.sender = nn.Sequential(task.sender, nn.BatchNorm1d(12), nn.Dropout(), Counter())
    task.receiver.candidates.requires_grad_(False)
    run = training.Training(experiment)
    run.train_step()
    run.module.train(train)
    task.receiver.eval()
    before = everything(run)
    encoded = []
    task.sender.register_forward_hook(lambda module, arguments, scores: encoded.append(len(scores)))
    assert run.probe(4, 5).keys() == {"probe/variance", "probe/cosine", "probe/bias"}
    assert encoded == [4]
    assert_same_tree(before, everything(run))


def test_a_probe_follows_from_the_seed_and_the_step_alone(tiny, tmp_path):
    run = training.Training(prepare(load(tiny, ["estimator.name=score_function"]), tmp_path))
    run.task.sender.register_forward_hook(lambda module, arguments, scores: scores + torch.rand_like(scores))
    first = run.probe(4, 5)
    torch.rand(3, generator=run.generators["batches"])
    torch.rand(3)
    assert run.probe(4, 5) == first
    run.step += 1
    assert run.probe(4, 5) != first


def test_a_task_is_probed_in_evaluation_mode_and_in_the_arithmetic_of_training(tiny, tmp_path):
    experiment = prepare(load(tiny, ["estimator.name=score_function", "precision=bf16-mixed"]), tmp_path)
    run = training.Training(experiment)
    seen = []
    run.task.sender.register_forward_hook(
        lambda module, arguments, scores: seen.append((scores.dtype, module.training, torch.is_grad_enabled()))
    )
    run.train_step()
    run.probe(4, 5)
    assert seen == [(torch.bfloat16, True, True), (torch.bfloat16, False, False)]
    assert Probe(run.estimator.eval(), 2).training  # schedules and baselines are used as in training


@pytest.mark.parametrize("estimator", STATEFUL.values(), ids=STATEFUL)
def test_a_probed_run_resumes_bit_identically(tiny, tmp_path, monkeypatch, estimator):
    options = [*SHORT, *PROBES, *estimator]
    call(tiny, "--out", tmp_path / "whole", *options)
    for call_number, (owner, method) in ((7, (training.Training, "train_step")), (2, (runner._Run, "_save"))):
        with monkeypatch.context() as patch:
            patch.setattr(owner, method, failing_at(call_number, getattr(owner, method)))
            assert call(tiny, "--out", tmp_path / "broken", *options).exit_code == 1
    assert call(tiny, "--out", tmp_path / "broken", *options).exit_code == 0
    assert_same_run(run_directory(tmp_path / "whole"), run_directory(tmp_path / "broken"))


def test_a_run_goes_on_with_other_probes(tiny, tmp_path, monkeypatch):
    call(tiny, "--out", tmp_path / "whole", *SHORT)
    with monkeypatch.context() as patch:
        patch.setattr(training.Training, "train_step", failing_at(16, training.Training.train_step))
        call(tiny, "--out", tmp_path / "changed", *SHORT)
    assert call(tiny, "--out", tmp_path / "changed", *SHORT, *PROBES).exit_code == 0
    whole, changed = (run_directory(tmp_path / out) for out in ("whole", "changed"))
    assert_same_tree(checkpoint(whole), checkpoint(changed))
    assert [row["step"] for row in probed(changed)] == [12, 16, 20]


@pytest.mark.parametrize("precision", ["32-true", "64-true", "bf16-mixed"])
@pytest.mark.parametrize("estimator", ["dense", "sparsemax"])
def test_an_exact_estimator_has_neither_variance_nor_bias(tiny, tmp_path, estimator, precision):
    options = [*SHORT, *PROBES, f"estimator.name={estimator}", f"precision={precision}"]
    assert call(tiny, "--out", tmp_path, *options).exit_code == 0
    found = probed(run_directory(tmp_path))
    assert len(found) == 5
    for row in found:
        assert row["probe/variance"] == 0
        assert row["probe/bias"] < (1e-12 if precision == "64-true" else 1e-5)
        assert row["probe/cosine"] == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize(("factor", "bias", "cosine"), [(1.5, 0.5, 1), (-1, 2, -1)])
def test_a_planted_wrong_gradient_is_seen(tiny, tmp_path, monkeypatch, factor, bias, cosine):
    combine = Dense.combine

    def planted(self, proposal, losses):
        estimate = combine(self, proposal, losses)
        return estimate._replace(surrogate=factor * estimate.surrogate)

    monkeypatch.setattr(Dense, "combine", planted)
    call(tiny, "--out", tmp_path, *SHORT, *PROBES, "estimator.name=dense")
    for row in probed(run_directory(tmp_path)):
        assert row["probe/bias"] == pytest.approx(bias, rel=1e-4)
        assert row["probe/cosine"] == pytest.approx(cosine)
        assert row["probe/variance"] == 0


class Task:
    """Three examples with latents of three states, or of three bits; the loss is quadratic in the latent."""

    def __init__(self):
        generator = torch.Generator().manual_seed(0)
        self.scores = torch.randn(3, 3, generator=generator)
        self.weight = torch.randn(3, 4, generator=generator)
        self.target = torch.randn(3, 4, generator=generator)
        self.decoded = []

    def loss_function(self, latents):
        self.decoded.append(latents)
        return (latents.value @ self.weight - latents.gather(self.target)).square().sum(1)

    def __call__(self, estimator, generator=None):
        estimate = estimator(self.scores, self.loss_function, context=self.target, generator=generator)
        return estimate.surrogate.mean()


def measure(estimator, draws, calls=1):
    task, probe = Task(), Probe(estimator, draws)
    for seed in range(calls):
        task(probe, torch.Generator().manual_seed(seed))
    return task, probe.metrics()


def test_the_metrics_are_what_they_are_defined_to_be():
    """Of the score function, from the states that it drew, in float64 and without any derivative of torch."""
    task, found = measure(estimators.build("score_function"), 5)
    assert [len(latents) for latents in task.decoded] == [9] + [3] * 5
    scores, weight, target = (each.double().numpy() for each in (task.scores, task.weight, task.target))
    q = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    losses = ((weight[None] - target[:, None]) ** 2).sum(2)  # of the states of each example
    exact = (q * (losses - (q * losses).sum(1, keepdims=True))).ravel()
    estimates = []
    for latents in task.decoded[1:]:
        z = latents.index.numpy()
        estimates.append((losses[range(3), z][:, None] * (np.eye(3)[z] - q)).ravel())
    mean, length = np.mean(estimates, 0), np.linalg.norm(exact)
    variance = sum(np.linalg.norm(g - mean) ** 2 for g in estimates) / 4 / length**2
    square = np.linalg.norm(mean - exact) ** 2 / length**2 - variance / 5
    cosine = np.mean([g @ exact / np.linalg.norm(g) / length for g in estimates])
    assert found["variance"] == pytest.approx(variance, rel=1e-5)
    assert found["cosine"] == pytest.approx(cosine, rel=1e-5)
    assert found["bias"] == pytest.approx(math.sqrt(max(square, 0)), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "options", "biased"),
    [
        ("score_function", {}, False),
        ("score_function", {"baseline": "leave_one_out", "samples": 2}, False),
        ("score_function", {"baseline": "moving_average"}, False),
        ("vimco", {"samples": 2}, False),  # has an objective of its own
        ("straight_through", {}, True),
        ("gumbel_softmax", {}, True),
    ],
)
def test_bias_is_told_from_chance(name, options, biased):
    draws = 500
    _, found = measure(estimators.build(name, **options), draws)
    chance = math.sqrt(found["variance"] / draws)
    assert found["variance"] > 0
    assert 0 < found["cosine"] < 1
    # Beyond one standard error an unbiased estimator is in one seed of ten, beyond two in hardly any.
    assert (found["bias"] > 5 * chance) if biased else (found["bias"] < 2 * chance)


def test_the_latents_of_several_calls_are_one_vector():
    (_, once), (_, twice) = (measure(estimators.build("dense"), 2, calls) for calls in (1, 2))
    assert twice == pytest.approx(once, abs=1e-6)
    task, found = measure(estimators.build("score_function"), 50, calls=2)
    assert len(task.decoded) == 102
    assert found["variance"] > 0


def test_each_draw_starts_from_the_state_of_training_and_leaves_it():
    estimator = estimators.build("gumbel_softmax", update_every=1, decay_rate=0.5)
    estimator.eval()
    _, found = measure(estimator, 20)
    fixed = estimators.build("gumbel_softmax", decay_rate=0.0)
    assert found == measure(fixed, 20)[1]
    assert not estimator.training
    assert estimator.temperature.steps == 0


def test_a_probe_is_an_estimator_to_a_task():
    estimator = estimators.build("straight_through")
    probe = Probe(estimator, 2)
    scores = torch.zeros(2, 3)
    bits = estimators.BitVector(scores)
    for name in ("uses", "objective", "samples_states", "unbiased"):
        assert getattr(probe, name) == getattr(estimator, name)
    assert torch.equal(probe.probabilities(bits), estimator.probabilities(bits))
    with pytest.raises(AttributeError):
        probe.nothing  # noqa: B018
    generator = torch.Generator().manual_seed(0)
    estimate = probe(bits, lambda latents: latents.value.sum(1), generator=generator)
    assert estimate.value.shape == (2,)
    assert not scores.requires_grad


@pytest.mark.parametrize("name", ["dense", "score_function", "sparsemax"])
def test_no_metrics_without_a_gradient_to_compare_with(name):
    probe = Probe(estimators.build(name), 2)
    assert probe.metrics() == {}
    probe(torch.zeros(2, 3), lambda latents: torch.zeros(len(latents)))
    assert probe.metrics() == {}


def test_gradients_that_are_not_finite_are_no_metrics():
    probe = Probe(estimators.build("dense"), 2)
    probe(torch.zeros(2, 3), lambda latents: torch.full((len(latents),), torch.nan))
    with pytest.raises(FloatingPointError, match="not finite"):
        probe.metrics()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["estimator.name=dense"], "more than 11 states"),
        (["estimator.name=vimco", "estimator.samples=6"], "too many tuples"),
        (["estimator.name=score_function", "game.reward=zero_one"], "the losses are random"),
    ],
    ids=["states", "objective", "random losses"],
)
def test_a_run_that_cannot_be_probed_warns_once_and_goes_on(tiny, tmp_path, monkeypatch, caplog, options, reason):
    call(tiny, "--out", tmp_path / "without", *SHORT, *options)
    if "states" in reason:
        monkeypatch.setattr(probing, "MOST_STATES", 11)
    with caplog.at_level(logging.WARNING, "latent"):
        assert call(tiny, "--out", tmp_path / "with", *SHORT, *PROBES, *options).exit_code == 0
    (warning,) = [record.getMessage() for record in caplog.records if "probed" in record.getMessage()]
    assert reason in warning
    assert_same_run(run_directory(tmp_path / "without"), run_directory(tmp_path / "with"))


def test_parameters_that_explode_are_no_business_of_a_probe(tiny, tmp_path, caplog):
    result = call(tiny, "--out", tmp_path, "train.learning_rate=1e300", "train.probe_every=1", "train.checkpoint_every=1")
    assert result.exit_code == 1
    assert "The gradient cannot be probed after step 1" in caplog.text
    assert "the parameters are not finite after step 1" in " ".join(result.stderr.split())


@pytest.mark.parametrize("option", ["probe_every=-1", "probe_examples=0", "probe_draws=1"])
def test_options_out_of_range(tiny, tmp_path, option):
    result = call(tiny, "--out", tmp_path, f"train.{option}")
    assert result.exit_code == 2
    assert f"train.{option.partition('=')[0]}: must be greater than or equal to" in " ".join(result.stderr.split())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_run_on_a_gpu_does_not_notice_its_probes(tiny, tmp_path):
    for out, options in (("without", []), ("with", PROBES)):
        call(tiny, "--out", tmp_path / out, *SHORT, *STATEFUL["moving average"], *options, "device=cuda")
    without, with_probes = (run_directory(tmp_path / out) for out in ("without", "with"))
    assert len(probed(with_probes)) == 5
    assert_same_tree(checkpoint(without), checkpoint(with_probes))
