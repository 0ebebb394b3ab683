"""The latent-variable models through the command line: every configuration, its files and its pictures."""

import json

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from latent.commands.main import app
from latent.experiment import runner, training
from latent.experiment.configuration import load
from latent.experiment.experiment import prepare
from latent.experiment.training import Training
from tests.conftest import ROOT
from tests.experiment.test_run import assert_same_run, call, failing_at, rows, run_directory

FOLDERS = ("vae", "bit_vector_vae", "ssvae")
CONFIGS = sorted(path for folder in FOLDERS for path in (ROOT / "configs" / folder).glob("*.yaml") if path.name != "base.yaml")
SMALL = ("data.name=digits", "train.steps=50", "train.batch_size=16")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_configuration_runs_on_the_embedded_digits(path, tmp_path):
    overrides = ["data.name=digits", "train.steps=50", "model.importance_images=0", "model.importance_samples=32"]
    warm = 20 if path.parent.name == "ssvae" else 0
    overrides += ["train.warm_start_steps=20", "model.labelled=100"] if warm else []
    result = call(path, *overrides, "--out", tmp_path, "--json")
    assert result.exit_code == 0, result.stderr
    summary = json.loads(result.stdout)
    for name in ("elbo", "distortion", "rate", "decoder_calls", "log_likelihood", "bits_per_dim"):
        assert f"test/{name}" in summary
    assert summary["test/elbo"] == pytest.approx(-summary["test/distortion"] - summary["test/rate"])
    assert summary["test/log_likelihood"] > summary["test/elbo"] - 1
    pictures = sorted((run_directory(tmp_path) / "pictures").iterdir())
    names = {"labels_and_styles", "reconstructions"} if path.parent.name == "ssvae" else {"samples", "reconstructions"}
    assert {picture.name for picture in pictures} == {f"{name}-{50 + warm:07d}.png" for name in names}
    for picture in pictures:
        with Image.open(picture) as image:
            assert image.mode == "L"
            assert min(image.size) > 28
            assert len(image.getcolors()) > 2


@pytest.mark.parametrize("folder", FOLDERS)
def test_stopped_and_resumed_is_bit_identical(folder, tmp_path, monkeypatch):
    path = ROOT / "configs" / folder / ("nvil.yaml" if folder != "vae" else "gumbel_relaxed.yaml")
    every = ["train.log_every=7", "train.evaluate_every=25", "train.checkpoint_every=10", "model.importance_images=5"]
    every += ["train.warm_start_steps=25"] if folder == "ssvae" else []
    call(path, *SMALL, *every, "--out", tmp_path / "whole")
    for number, owner, method in (
        (13, training.Training, "train_step"),
        (3, runner._Run, "_save"),
        (1, runner._Run, "_summary"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(owner, method, failing_at(number, getattr(owner, method)))
            assert call(path, *SMALL, *every, "--out", tmp_path / "broken").exit_code == 1
    assert call(path, *SMALL, *every, "--out", tmp_path / "broken").exit_code == 0
    assert_same_run(run_directory(tmp_path / "whole"), run_directory(tmp_path / "broken"))
    found = [sorted((run_directory(tmp_path / each) / "pictures").iterdir()) for each in ("whole", "broken")]
    assert [picture.name for picture in found[0]] == [picture.name for picture in found[1]]
    assert all(left.read_bytes() == right.read_bytes() for left, right in zip(*found, strict=True))


def test_the_warm_start_has_its_own_objective_rate_and_means(tmp_path):
    path = ROOT / "configs" / "ssvae" / "sparsemax.yaml"
    overrides = ["train.warm_start_steps=20", "train.warm_start_learning_rate=1e-2", "train.log_every=30", "train.steps=60"]
    result = call(path, "data.name=digits", "model.importance_samples=0", *overrides, "--out", tmp_path)
    assert result.exit_code == 0
    first, second, _ = rows(run_directory(tmp_path))
    assert 0 < first["train/decoder_calls"] < second["train/decoder_calls"] * 2
    assert {"train/elbo", "train/labelled_elbo", "train/supervised_loss"} <= first.keys()
    run = Training(prepare(load(path, ["data.name=digits", *overrides]), tmp_path / "other"))
    assert rows(run_directory(tmp_path))[-1]["step"] == 80
    for step in range(22):
        before = [parameter.detach().clone() for parameter in run.task.parameters()]
        run.train_step()
        moved = max(float((old - new.detach()).abs().max()) for old, new in zip(before, run.task.parameters(), strict=True))
        assert run.optimizer.param_groups[0]["lr"] == (1e-2 if step < 20 else 5e-4)
        assert moved < (0.05 if step < 20 else 5e-3)
    assert run.optimizer.param_groups[0]["weight_decay"] == 1e-5
    assert run.optimizer.param_groups[1]["weight_decay"] == 0


def test_the_means_of_a_metric_are_over_the_steps_that_had_it():
    from latent.experiment.metrics import RunningMeans

    means = RunningMeans(torch.device("cpu"))
    means.add({"a": torch.tensor([1.0, 3.0])})
    means.add({"a": torch.tensor([4.0, 4.0]), "b": torch.tensor([5.0, 7.0])})
    state = means.state()
    means.restore(state)
    assert means.pop() == {"a": 3.0, "b": 6.0}
    assert means.pop() == {}


@pytest.mark.parametrize(
    ("config", "overrides", "words"),
    [
        ("vae/sparsemax.yaml", ["train.warm_start_steps=5"], "vae has no warm start; it must be 0"),
        (
            "vae/sparsemax.yaml",
            ["estimator.name=reparameterization"],
            "estimator.name: reparameterization does not fit: a categorical latent cannot be reparameterised",
        ),
        ("vae/gaussian.yaml", ["estimator.name=dense"], "dense does not fit: a gaussian latent cannot enumerate its states"),
        ("vae/vimco.yaml", ["estimator.weights=likelihood"], "estimator.name: its objective is neither"),
        ("vae/dense.yaml", ["model.kl=relaxed"], "model.kl: relaxed needs an estimator that decodes relaxed latents"),
        (
            "vae/bits_sparse_map.yaml",
            ["model.latent_size=20", "estimator.name=dense"],
            "bit_vector latent has 2^20 states",
        ),
        ("vae/dense.yaml", ["model.importance_samples=1"], "model.importance_samples: must be 0, or at least 2"),
        ("ssvae/dense.yaml", ["estimator.name=vimco", "estimator.weights=importance"], "ssvae has a bound on it"),
        ("ssvae/dense.yaml", ["model.labelled=5000"], "model.labelled: must lie between 1 and the 1296"),
        ("bit_vector_vae/sparse_map.yaml", ["model.bits=0"], "model.bits: must be at least 1"),
        ("bit_vector_vae/sparse_map.yaml", ["data.name=mnist", "data.path=/nowhere"], "/nowhere"),
    ],
)
def test_what_does_not_fit_is_told_with_its_place(config, overrides, words, tmp_path):
    result = call(ROOT / "configs" / config, *overrides, "--out", tmp_path)
    assert result.exit_code == 2
    assert words in result.stderr.replace("\n", " ")
    assert not list(tmp_path.iterdir())


def test_without_its_data_a_run_says_which_command_to_give(tmp_path, monkeypatch):
    monkeypatch.setenv("DISCRETE_LATENT_DATA", str(tmp_path / "empty"))
    result = call(ROOT / "configs" / "ssvae" / "published.yaml", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "latent data prepare mnist" in result.stderr


def test_a_gradient_probe_goes_through_a_model(tmp_path):
    path = ROOT / "configs" / "ssvae" / "score_function.yaml"
    probe = ["train.probe_every=11", "train.probe_draws=8", "model.importance_samples=0", "train.warm_start_steps=5"]
    summary = json.loads(call(path, *SMALL, *probe, "--out", tmp_path, "--json").stdout)
    assert summary["probe/variance"] > 0


def test_a_continuous_latent_has_no_certificate():
    result = CliRunner().invoke(app, ["certify", "reparameterization"])
    assert result.exit_code == 2
    assert "reparameterization serves no discrete latent" in result.stderr
