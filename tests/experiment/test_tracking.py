"""Weights & Biases: what an offline run holds, read back with W&B's own command, and that no failure hurts a run."""

import json
import os
import subprocess
import sys
from unittest.mock import MagicMock

import pytest
import wandb

from latent.experiment.tracking import WandbSink
from tests.conftest import ROOT

WANDB = [sys.executable, "-m", "wandb"]
KEY = "a" * 40


def run(latent_command, tiny, out, *overrides, **environment):
    kept = {key: value for key, value in os.environ.items() if not key.startswith("WANDB")}
    kept |= {"HOME": str(out), "NETRC": str(out / "netrc"), "OMP_NUM_THREADS": "1", **environment}
    command = [*latent_command, "run", str(tiny), "--out", str(out / "results"), "--json", *overrides]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=kept, stdin=subprocess.DEVNULL)


def offline_files(out):
    return sorted(out.glob("results/*/runs/*/wandb/offline-run-*/*.wandb"))


def inspect(file, *flags):
    result = subprocess.run([*WANDB, "leet", "inspect", "--json", *flags, file], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def records(file, kind):
    return [record[kind] for record in map(json.loads, inspect(file).splitlines()) if record["type"] == kind]


def test_an_offline_run_read_back(tiny, tmp_path, latent_command):
    result = run(latent_command, tiny, tmp_path, "seed=3", "tracking.tags=[mine]")
    assert result.returncode == 0, result.stderr
    summary = json.loads(result.stdout)
    (file,) = offline_files(tmp_path)
    found = json.loads(inspect(file, "--summary"))
    assert found["config"]["estimator.name"] == "sparsemax"
    assert found["config"]["seed"] == 3
    assert set(found["tags"]) == {"signal_game", "sparsemax", "synthetic", "mine"}
    for name in ("test/success_rate", "test/decoder_calls", "total_decoder_calls", "train/success_rate"):
        assert found["summary"][name] == pytest.approx(summary[name])
    (start,) = records(file, "run")
    assert start["run_group"].startswith("sparsemax-")
    assert "s3" not in start["run_group"]
    assert start["job_type"] == "tiny"
    assert start["display_name"] == summary["run"].split("/")[1]
    assert start["run_id"] == summary["run"].replace("/", ".")
    history = records(file, "history")
    logged = next(tmp_path.glob("results/*/runs/*/metrics.jsonl")).read_text().splitlines()
    assert len(history) == len(logged)
    assert "total_decoder_calls" in json.dumps(records(file, "metric"))


def test_pictures_are_sent_with_the_row_of_their_step(tmp_path, latent_command):
    config = ROOT / "configs" / "ssvae" / "sparsemax.yaml"
    sizes = ["train.steps=15", "train.warm_start_steps=5", "train.evaluate_every=10", "model.importance_samples=0"]
    result = run(latent_command, config, tmp_path, *sizes)
    assert result.returncode == 0, result.stderr
    (file,) = offline_files(tmp_path)
    history = [json.dumps(record) for record in records(file, "history")]
    assert ["pictures/labels_and_styles" in row for row in history] == [True, True]
    sent = {path.read_bytes() for path in file.parent.glob("files/media/images/pictures/*.png")}
    kept = {path.read_bytes() for path in tmp_path.glob("results/*/runs/*/pictures/*.png")}
    assert len(kept) == 4
    assert len(sent) == 4


def test_pictures_that_cannot_be_sent_do_not_hurt(tmp_path, caplog):
    sink = WandbSink({"tracking": {"wandb": "disabled"}}, tmp_path, "a/b", [])
    sink.run = MagicMock()
    sink.show({"samples": tmp_path / "missing.png"}, 3)
    assert "training goes on without it" in caplog.text
    assert sink.run is None
    sink.show({"samples": tmp_path / "missing.png"}, 4)


def test_a_resumed_offline_run_holds_every_row(tiny, tmp_path, latent_command):
    stopped = run(latent_command, tiny, tmp_path, "game.test_games=31", "train.evaluate_every=40")
    assert stopped.returncode == 0
    (directory,) = tmp_path.glob("results/*/runs/*")
    (directory / "done.json").unlink()
    assert run(latent_command, tiny, tmp_path, "game.test_games=31", "train.evaluate_every=40").returncode == 0
    first, second = (len(records(file, "history")) for file in offline_files(tmp_path))
    assert first == second == len((directory / "metrics.jsonl").read_text().splitlines())


def test_a_key_without_a_network_is_a_warning(tiny, tmp_path, latent_command):
    """And it ends by itself: what W&B waits for has the limits of tracking.SECONDS."""
    unreachable = "http://127.0.0.1:9"
    result = run(latent_command, tiny, tmp_path, WANDB_API_KEY=KEY, WANDB_BASE_URL=unreachable)
    assert result.returncode == 0, result.stderr
    assert "cannot be reached" in " ".join(result.stderr.split())
    assert json.loads(result.stdout)["step"] == 60
    assert len(offline_files(tmp_path)) == 1


@pytest.mark.parametrize(("mode", "files"), [("online", 1), ("offline", 1), ("disabled", 0)])
def test_without_a_key_it_never_asks(tiny, tmp_path, latent_command, mode, files):
    result = run(latent_command, tiny, tmp_path, WANDB_MODE=mode)
    assert result.returncode == 0, result.stderr
    assert ("no key" in result.stderr) == (mode == "online")
    assert len(offline_files(tmp_path)) == files


def test_the_configuration_wins_over_the_environment(tiny, tmp_path, latent_command):
    result = run(latent_command, tiny, tmp_path, "tracking.wandb=disabled", WANDB_MODE="offline")
    assert result.returncode == 0, result.stderr
    assert not offline_files(tmp_path)


def test_a_run_whose_service_dies_goes_on(tmp_path, monkeypatch, caplog):
    """Whatever W&B raises, and wherever: rows that follow are dropped, and a warning says why, once."""

    class Dead:
        step = 0

        def define_metric(self, *arguments, **options):
            return None

        def log(self, *arguments, **options):
            raise ConnectionError("the service is gone")

        finish = log

    monkeypatch.setattr(wandb, "init", lambda **options: Dead())
    configuration = {
        "tracking": {"wandb": "offline", "project": "p", "entity": None, "tags": []},
        **{"task": "t", "seed": 0, "estimator": {"name": "e"}, "data": {"name": "d"}},
    }
    sink = WandbSink(configuration, tmp_path, "experiment/e-s0-00000000", [{"step": 1}])
    sink.log({"step": 2})
    sink.close({}, 0)
    assert [record.message for record in caplog.records].count(
        "Weights & Biases failed (the service is gone); training goes on without it"
    ) == 1


@pytest.mark.parametrize(("rows", "resume"), [([], None), ([{"step": 1}], "allow")])
def test_only_a_run_that_goes_on_resumes_online(tmp_path, monkeypatch, rows, resume):
    """A forced run starts anew: rows of the run that it replaces must not be taken for its own."""
    options: dict = {}
    monkeypatch.setattr(wandb, "init", lambda **given: options.update(given) or MagicMock(step=1))
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    configuration = {
        "tracking": {"wandb": "online", "project": "p", "entity": None, "tags": []},
        **{"task": "t", "seed": 0, "estimator": {"name": "e"}, "data": {"name": "d"}},
    }
    WandbSink(configuration, tmp_path, "experiment/e-s0-00000000", rows)
    assert options["resume"] == resume


def test_a_failure_of_the_sink_is_a_warning(tiny, tmp_path, latent_command):
    """An installation that cannot even be imported."""
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "wandb.py").write_text("raise RuntimeError('broken installation')")
    result = run(latent_command, tiny, tmp_path, PYTHONPATH=f"{tmp_path / 'broken'}")
    assert result.returncode == 0, result.stderr
    assert "broken installation" in " ".join(result.stderr.split())
    assert json.loads(result.stdout)["step"] == 60
