"""Running: files, resumption, interruption, divergence, and the command line's words and exit codes."""

import json
import os
import random
import shutil
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

from games.signal_game import _fixed_generator
from latent.commands.main import app
from latent.experiment import checkpoint, runner, training
from latent.experiment.configuration import load
from latent.experiment.experiment import prepare
from latent.experiment.metrics import MetricsLog
from tests.conftest import ROOT
from tests.full_disk import full_disk
from tests.processes import ended, start, wait_until

FILES = {"config.yaml", "env.json", "metrics.jsonl", "checkpoint.pt", "done.json"}


def call(*arguments):
    """Run the command line in this process; exceptions other than exits are failures."""
    result = CliRunner().invoke(app, ["run", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def run_directory(out):
    (directory,) = out.glob("*/runs/*")
    return directory


def rows(directory):
    lines = (directory / "metrics.jsonl").read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]  # the last one may be in the making


def started(out):
    return any(file.read_bytes().endswith(b"\n") for file in out.glob("*/runs/*/metrics.jsonl"))


def untimed(record):
    return {key: value for key, value in record.items() if not key.startswith("time/")}


def assert_same_run(left: Path, right: Path):
    """Bit for bit: metrics, summary, and every tensor of the checkpoint; but not how long it took."""
    assert left.name == right.name
    assert [untimed(row) for row in rows(left)] == [untimed(row) for row in rows(right)]
    summaries = [untimed(json.loads((each / "done.json").read_text())) for each in (left, right)]
    assert summaries[0] == summaries[1]
    states = [torch.load(each / "checkpoint.pt", weights_only=True)["state"]["training"] for each in (left, right)]
    assert_same_tree(*states)


def assert_same_tree(left, right):
    assert type(left) is type(right)
    if isinstance(left, torch.Tensor):
        assert left.dtype == right.dtype
        assert torch.equal(left, right)
    elif isinstance(left, dict):
        assert left.keys() == right.keys()
        for key in left:
            assert_same_tree(left[key], right[key])
    elif isinstance(left, list | tuple):
        assert len(left) == len(right)
        for a, b in zip(left, right, strict=True):
            assert_same_tree(a, b)
    else:
        assert left == right


def test_a_run_leaves_its_files_and_its_metrics(tiny, tmp_path):
    result = call(tiny, "--out", tmp_path, "--json", "seed=3")
    assert result.exit_code == 0
    summary = json.loads(result.stdout)
    directory = run_directory(tmp_path)
    assert directory.parent == tmp_path / "tiny" / "runs"
    assert directory.name.startswith("sparsemax-s3-")
    assert {file.name for file in directory.iterdir()} - {".lock"} == FILES
    assert summary == json.loads((directory / "done.json").read_text())
    assert summary["run"] == f"tiny/{directory.name}"
    assert str(directory) in result.stderr.replace("\n", "")
    for name in ("success_rate", "expected_success_rate", "decoder_calls", "entropy", "loss", "messages_in_use"):
        assert f"test/{name}" in summary
        assert f"val/{name}" in summary
    for name in ("train/loss", "train/success_rate", "train/decoder_calls", "train/entropy", "grad_norm/sender"):
        assert name in summary
    assert yaml.safe_load((directory / "config.yaml").read_text())["game"]["vocabulary_size"] == 12
    assert "torch" in json.loads((directory / "env.json").read_text())[0]["packages"]
    steps = [row["step"] for row in rows(directory)]
    assert steps == sorted({*range(7, 61, 7), 25, 50, 60})
    assert [row["step"] for row in rows(directory) if "val/loss" in row] == [25, 50, 60]
    assert [row["step"] for row in rows(directory) if "test/loss" in row] == [60]


def test_decoder_calls_are_counted_from_the_pairs_decoded(tiny, tmp_path, monkeypatch):
    decoded = []
    from games.agents import DotProductReceiver

    forward = DotProductReceiver.forward
    monkeypatch.setattr(
        DotProductReceiver,
        "forward",
        lambda self, messages, embedded: decoded.append(len(messages) * self.training) or forward(self, messages, embedded),
    )
    summary = json.loads(call(tiny, "--out", tmp_path, "--json").stdout)
    assert summary["total_decoder_calls"] == sum(decoded)
    means = [(row["step"], row["train/decoder_calls"]) for row in rows(run_directory(tmp_path))]
    total, last = 0.0, 0
    for step, mean in means:
        total, last = total + mean * (step - last) * 8, step
    assert total == pytest.approx(sum(decoded))


def test_a_finished_run_is_not_run_again_unless_forced(tiny, tmp_path, monkeypatch):
    first = json.loads(call(tiny, "--out", tmp_path, "--json").stdout)
    with monkeypatch.context() as patch:
        patch.setattr(runner, "_Run", None)
        again = call(tiny, "--out", tmp_path, "--json")
    assert json.loads(again.stdout) == first
    assert "already finished" in again.stderr
    forced = json.loads(call(tiny, "--out", tmp_path, "--json", "--force").stdout)
    assert untimed(forced) == untimed(first)
    table = call(tiny, "--out", tmp_path)
    assert "Test success rate, expected (%)" in table.stdout


def test_the_same_seed_is_the_same_run_and_another_seed_another(tiny, tmp_path):
    for out in ("a", "b"):
        call(tiny, "--out", tmp_path / out)
    assert_same_run(run_directory(tmp_path / "a"), run_directory(tmp_path / "b"))
    other = json.loads(call(tiny, "--out", tmp_path / "c", "--json", "seed=1").stdout)
    assert other["test/loss"] != json.loads((run_directory(tmp_path / "a") / "done.json").read_text())["test/loss"]


class Stop(Exception):
    pass


def failing_at(number, original):
    """The function, but its ``number``-th call fails."""
    calls = iter(range(1, number))

    def wrapped(*arguments):
        if next(calls, None) is None:
            raise Stop
        return original(*arguments)

    return wrapped


@pytest.mark.parametrize(
    "estimator",
    [
        ["estimator.name=sparsemax"],
        ["estimator.name=score_function", "estimator.baseline=moving_average"],
        ["estimator.name=gumbel_softmax", "estimator.update_every=3", "estimator.decay_rate=0.01"],
        ["estimator.name=score_function", "game.reward=zero_one", "estimator.baseline=sampled_self_critic"],
        ["estimator.name=score_function", "estimator.baseline=nvil", "train.estimator_learning_rate=0.01"],
        ["estimator.name=relax"],
        ["estimator.name=entmax", "estimator.learned=true"],
    ],
    ids=["sparsemax", "moving average", "annealed temperature", "sampled actions", "nvil", "relax", "learned alpha"],
)
def test_stopped_and_resumed_is_bit_identical(tiny, tmp_path, monkeypatch, estimator):
    """Stopped by an error in every part of a step, also between a row and the checkpoint after it."""
    call(tiny, "--out", tmp_path / "whole", *estimator)
    out = tmp_path / "broken"
    places = {
        "draw": (training.Training, "train_step"),
        "row": (MetricsLog, "write"),
        "after the row": (runner._Run, "_save"),
        "evaluation": (training.Training, "evaluate"),
        "end": (runner._Run, "_summary"),
    }
    for call_number, place in ((13, "draw"), (3, "row"), (2, "after the row"), (2, "evaluation"), (1, "end")):
        owner, method = places[place]
        with monkeypatch.context() as patch:
            patch.setattr(owner, method, failing_at(call_number, getattr(owner, method)))
            result = call(tiny, "--out", out, *estimator)
        assert result.exit_code == 1
        assert "Stop" in (run_directory(out) / "error.txt").read_text()
    assert call(tiny, "--out", out, *estimator).exit_code == 0
    assert_same_run(run_directory(tmp_path / "whole"), run_directory(out))
    assert not (run_directory(out) / "error.txt").exists()


def test_killed_at_random_moments_is_bit_identical(tiny, tmp_path, latent_command):
    """``kill -9`` at random steps, each time start the same command again: the end is that of an undisturbed run.

    The steps are of the first half, so that no run ends before a test that is held up has killed it.
    """
    command = [*latent_command, "run", str(tiny), "train.steps=3000", "train.log_every=3", "train.checkpoint_every=37"]
    command += ["estimator.name=score_function", "estimator.baseline=moving_average"]
    subprocess.run([*command, "--out", str(tmp_path / "whole")], check=True, capture_output=True, cwd=ROOT)
    out = tmp_path / "killed"
    for step in sorted(random.Random(0).sample(range(1, 1500), 4)):
        with start([*command, "--out", out], stderr=subprocess.PIPE) as process:
            assert process.stderr.readline().startswith("run directory:")
            wait_until(lambda step=step: started(out) and 3 * len(rows(run_directory(out))) >= step, process)
            process.kill()
        assert process.returncode == -signal.SIGKILL
        assert not (run_directory(out) / "done.json").exists()
    finished = subprocess.run([*command, "--out", str(out)], check=True, capture_output=True, text=True, cwd=ROOT)
    assert "going on after step" in finished.stderr
    assert_same_run(run_directory(tmp_path / "whole"), run_directory(out))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_saves_its_last_step(tiny, tmp_path, latent_command, number):
    command = [*latent_command, "run", str(tiny), "train.steps=100000", "--out", str(tmp_path)]
    with start(command, stderr=subprocess.PIPE) as process:
        assert process.stderr.readline().startswith("run directory:")
        wait_until(lambda: started(tmp_path), process)
        process.send_signal(number)
        errors = ended(process, 130)
    assert "the same command goes on from there" in errors
    assert "Traceback" not in errors
    step = int(errors.split("after step ")[1].split(";")[0])
    assert torch.load(run_directory(tmp_path) / "checkpoint.pt", weights_only=True)["state"]["training"]["step"] == step


def test_two_processes_never_share_a_directory(tiny, tmp_path):
    experiment = prepare(load(tiny, []), tmp_path)
    with experiment.directory.locked():
        result = call(tiny, "--out", tmp_path)
    assert result.exit_code == 1
    assert "is in use" in result.stderr


def test_batches_and_estimator_noise_are_independent_streams(tiny, tmp_path):
    run = training.Training(prepare(load(tiny, []), tmp_path))
    left, right = (torch.rand(1000, generator=run.generators[name]) for name in ("batches", "estimator"))
    fixed = torch.rand(1000, generator=_fixed_generator("test games"))
    for a, b in ((left, right), (left, fixed), (right, fixed)):
        assert not torch.isin(a, b).any()


class PlantedGradient(torch.autograd.Function):
    """The identity, with a gradient that is not a number."""

    @staticmethod
    def forward(context, x):
        return x.clone()

    @staticmethod
    def backward(context, gradient):
        return gradient * torch.nan


def test_a_finite_loss_with_a_gradient_that_is_not_stops_before_the_parameters_are_lost(tiny, tmp_path, monkeypatch):
    from games import SignalGame

    forward = SignalGame.forward
    steps = iter(range(1, 100))

    def planted(*arguments):
        objective, metrics = forward(*arguments)
        return (PlantedGradient.apply(objective) if next(steps) == 15 else objective), metrics

    monkeypatch.setattr(SignalGame, "forward", planted)
    result = call(tiny, "--out", tmp_path, "train.checkpoint_every=5")
    assert result.exit_code == 1
    assert "training diverged in step 15: the norm of the gradient is nan" in result.stderr
    state = torch.load(run_directory(tmp_path) / "checkpoint.pt", weights_only=True)["state"]["training"]
    assert state["step"] == 14
    assert all(torch.isfinite(tensor).all() for tensor in state["objective"].values())


@pytest.mark.parametrize("estimator", ["dense", "sparsemax"])
def test_parameters_that_explode_in_the_last_step_do_not_make_a_finished_run(tiny, tmp_path, estimator):
    result = call(tiny, "--out", tmp_path, "train.learning_rate=1e38", "train.steps=1", f"estimator.name={estimator}")
    assert result.exit_code == 1
    assert "failed" in result.stderr
    assert "A lower train.learning_rate may help" in result.stderr
    assert not (run_directory(tmp_path) / "done.json").exists()


def test_an_update_that_overflows_does_not_replace_a_sound_checkpoint(tiny, tmp_path):
    for every in (1, 100):
        result = call(tiny, "--out", tmp_path / str(every), "train.learning_rate=1e300", f"train.checkpoint_every={every}")
        assert result.exit_code == 1
        assert "checkpoint.pt" not in {file.name for file in run_directory(tmp_path / str(every)).iterdir()}
        assert "is in " not in result.stderr


@pytest.mark.parametrize("where", ["objective", "scores"])
def test_divergence_stops_the_run_with_the_last_good_state(tiny, tmp_path, monkeypatch, where):
    from games import SignalGame

    forward = SignalGame.forward

    def diverging(self, games, estimator, generator=None):
        diverging.step += 1
        if diverging.step > 33 and where == "scores":
            self.sender.register_forward_hook(lambda module, arguments, scores: scores * torch.nan)
        objective, metrics = forward(self, games, estimator, generator)
        return (objective * torch.inf if diverging.step > 33 else objective), metrics

    diverging.step = 0
    monkeypatch.setattr(SignalGame, "forward", diverging)
    options = ["estimator.name=score_function", "estimator.baseline=moving_average"]
    result = call(tiny, "--out", tmp_path, *options)
    assert result.exit_code == 1
    assert "training diverged in step 34" in result.stderr
    directory = run_directory(tmp_path)
    assert "diverged" in (directory / "error.txt").read_text()
    state = torch.load(directory / "checkpoint.pt", weights_only=True)["state"]["training"]
    assert state["step"] == 33
    if where == "objective":  # from the saved state, a sound objective goes on as if nothing had happened
        monkeypatch.setattr(SignalGame, "forward", forward)
        assert call(tiny, "--out", tmp_path, *options).exit_code == 0
        call(tiny, "--out", tmp_path / "whole", *options)
        assert_same_run(run_directory(tmp_path / "whole"), directory)


def test_double_precision_and_bfloat16_autocast(tiny, tmp_path):
    losses = {}
    for precision in ("32-true", "64-true", "bf16-mixed"):
        result = call(tiny, "--out", tmp_path, "--json", f"precision={precision}")
        assert result.exit_code == 0, result.stderr
        losses[precision] = json.loads(result.stdout)["test/loss"]
    assert losses["64-true"] == pytest.approx(losses["32-true"], rel=1e-3)
    assert losses["bf16-mixed"] == pytest.approx(losses["32-true"], rel=0.2)
    assert len(set(losses.values())) == 3


def test_training_does_not_depend_on_how_often_it_is_looked_at(tiny, tmp_path):
    states = []
    for every in (1, 1000):
        out = tmp_path / str(every)
        call(tiny, "--out", out, *(f"train.{each}_every={every}" for each in ("log", "evaluate", "checkpoint")))
        states.append(torch.load(run_directory(out) / "checkpoint.pt", weights_only=True)["state"]["training"]["objective"])
    assert_same_tree(*states)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_run_on_a_gpu(tiny, tmp_path):
    summary = json.loads(call(tiny, "--out", tmp_path, "--json", "device=cuda").stdout)
    assert summary["step"] == 60


# Bad input: a clear message, an exit code of 1 or 2, and no traceback.


def npz(path, **changes):
    content = {"features": np.random.default_rng(0).standard_normal((40, 3)), "labels": np.arange(40) % 5}
    content |= {"split": np.arange(40) // 20}
    np.savez(path, **{name: array for name, array in (content | changes).items() if array is not None})
    return path


def truncated(path):
    whole = npz(path).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    return path


WRONG = {
    "misspelt key": (["train.stepz=3"], 2, "did you mean 'steps'?"),
    "wrong type": (["train.steps=many"], 2, "must be a valid integer"),
    "unknown estimator": (["estimator.name=sparsemx"], 2, "did you mean 'sparsemax'?"),
    "vocabulary of zero": (["game.vocabulary_size=0"], 2, "game.vocabulary_size: must be at least 1"),
    "more candidates than concepts": (["game.candidates=11"], 2, "10 concepts with train images"),
    "one sample left out of one": (
        ["estimator.name=score_function", "estimator.baseline=leave_one_out"],
        2,
        "estimator.samples: must be at least 2",
    ),
    "zero-one reward without samples": (["game.reward=zero_one"], 2, "it needs an estimator that samples"),
    "zero-one reward on a bound": (["game.reward=zero_one", "estimator.name=vimco"], 2, "the expected loss"),
    "an estimator of bits": (
        ["estimator.name=disarm"],
        2,
        "estimator.name: disarm does not fit: a categorical latent cannot be told as scores of independent bits",
    ),
    "no CUDA": (["device=cuda"], 2, "device: cuda cannot be used here"),
    "a sender without units": (["game.sender.hidden_size=0"], 2, "game.sender.hidden_size: must be at least 1, got 0"),
    "a receiver without units": (["game.receiver.hidden_size=0"], 2, "game.receiver.hidden_size: must be at least 1"),
    "an optimiser's option out of range": (
        ["train.optimizer.beta1=1"],
        2,
        "train.optimizer.beta1: must be at least 0 and below",
    ),
    "options that do not fit": (
        ["train.optimizer={name: sgd, nesterov: true}"],
        2,
        "train.optimizer.nesterov: needs a momentum",
    ),
    "a warm-up longer than the run": (["train.schedule={name: cosine, warm_up_steps: 60}"], 2, "train.schedule.warm_up_steps"),
    "override without =": (["train.steps"], 2, "an override is written KEY=VALUE"),
    "missing npz": (["data.name=features", "data.path=none.npz"], 2, "none.npz is missing"),
    "no path": (["data.name=features"], 2, "data.path is missing"),
    "negative seed of the data": (["data.seed=-1"], 2, "data.seed: must be at least 0"),
    "more data than fits any memory": (["data.concepts=100000000000000000"], 2, "data cannot be built as configured"),
    "a name too long for a file": ([f"experiment={'x' * 300}"], 2, "experiment: Name of the folder"),
    "more threads than any machine has": (["threads=100000"], 2, "threads: must be less than or equal to 1024"),
    "a vocabulary that fits no memory": (["game.vocabulary_size=1000000000000"], 2, "game cannot be built as configured"),
    "no home": (["data.name=features", "data.path=~nobody-of-that-name/a"], 2, "names no file"),
    "negative seed": (["seed=-1"], 2, "seed: must be greater than or equal to 0"),
    "unwritable directory": (["--out", "/proc/nowhere"], 1, "cannot write to /proc/nowhere"),
    "file as directory": (["--out", str(ROOT / "setup.cfg")], 1, "cannot write to"),
}


@pytest.mark.parametrize("case", WRONG)
def test_bad_options(tiny, tmp_path, case):
    if case == "no CUDA" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    arguments, code, message = WRONG[case]
    result = call(tiny, *([] if "--out" in arguments else ["--out", tmp_path]), *arguments)
    assert result.exit_code == code
    assert message in " ".join(result.stderr.split())
    assert "Traceback" not in result.output
    assert not list(tmp_path.glob("*/runs"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (truncated, "cannot be read as features"),
        (lambda path: npz(path, labels=None), "there is no array 'labels'"),
        (lambda path: npz(path, features=np.full((40, 3), np.nan)), "NaN or infinite values in 40 rows"),
    ],
    ids=["truncated", "no labels", "NaN"],
)
def test_bad_data(tiny, tmp_path, make, message):
    path = make(tmp_path / "data.npz")
    result = call(tiny, "--out", tmp_path, "data.name=features", f"data.path={path}", "game.candidates=2")
    assert result.exit_code == 2
    assert "data.path" in result.stderr
    assert message in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("task: signal_game\nseed: 1\nseed: 2\n", ":3:1: the key 'seed' is given twice"),
        ("- a\n- list\n", "it is a list"),
        (
            "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
            + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9)),
            "values once aliases are expanded; refused",
        ),
        ("{", "this is not YAML"),
    ],
)
def test_bad_files(tmp_path, text, message):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    result = call(path, "--out", tmp_path)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())


def test_the_line_of_a_mistake_is_shown(tiny, tmp_path):
    tiny.write_text(tiny.read_text().replace("  steps:", "  stepz:"))
    errors = call(tiny, "--out", tmp_path).stderr
    assert "   stepz: 60" in errors
    assert "tiny.yaml:19:3" in errors.replace("\n", "")


def interrupted(tiny, tmp_path, monkeypatch):
    """The directory of a run that stopped after a checkpoint."""
    with monkeypatch.context() as patch:
        patch.setattr(runner._Run, "_summary", None)
        call(tiny, "--out", tmp_path)
    return run_directory(tmp_path)


@pytest.mark.parametrize("size", [0, 10, 500, -20])
def test_a_truncated_checkpoint(tiny, tmp_path, monkeypatch, size):
    file = interrupted(tiny, tmp_path, monkeypatch) / "checkpoint.pt"
    file.write_bytes(file.read_bytes()[:size])
    result = call(tiny, "--out", tmp_path)
    assert result.exit_code == 1
    assert "checkpoint.pt cannot be read" in " ".join(result.stderr.split())
    assert "--force" in result.stderr
    assert call(tiny, "--out", tmp_path, "--force").exit_code == 0


@pytest.mark.parametrize("content", ["", "[1]", "{}", "3", '{"run": 1'])
def test_a_damaged_summary(tiny, tmp_path, content):
    call(tiny, "--out", tmp_path)
    (run_directory(tmp_path) / "done.json").write_text(content)
    result = call(tiny, "--out", tmp_path)
    assert result.exit_code == 1
    assert "done.json is damaged" in result.stderr
    assert call(tiny, "--out", tmp_path, "--force").exit_code == 0


def test_a_kill_while_writing_leaves_nothing_for_ever(tiny, tmp_path, monkeypatch):
    directory = interrupted(tiny, tmp_path, monkeypatch)
    (directory / ".checkpoint.pt.partial").write_bytes(b"half")  # what a kill leaves
    assert call(tiny, "--out", tmp_path).exit_code == 0
    assert {file.name for file in directory.iterdir()} - {".lock"} == FILES


def test_files_can_be_read_by_others_as_the_umask_says(tiny, tmp_path):
    call(tiny, "--out", tmp_path)
    modes = {file.stat().st_mode & 0o777 for file in run_directory(tmp_path).iterdir() if file.name in FILES}
    assert len(modes) == 1


def test_a_checkpoint_of_another_configuration(tiny, tmp_path, monkeypatch):
    directory = interrupted(tiny, tmp_path, monkeypatch)
    call(tiny, "--out", tmp_path / "other", "game.sender.hidden_size=9")
    other = run_directory(tmp_path / "other")
    shutil.copy(other / "checkpoint.pt", directory / "checkpoint.pt")
    result = call(tiny, "--out", tmp_path)
    assert result.exit_code == 1
    assert f"belongs to the run tiny/{other.name}" in " ".join(result.stderr.split())


def test_a_checkpoint_that_tries_to_run_code(tiny, tmp_path, monkeypatch):
    directory = interrupted(tiny, tmp_path, monkeypatch)
    marker = tmp_path / "ran"

    class Malicious:
        def __reduce__(self):
            return os.mkdir, (str(marker),)

    torch.save({"format": checkpoint.FORMAT, "identity": "x", "state": Malicious()}, directory / "checkpoint.pt")
    result = call(tiny, "--out", tmp_path)
    assert result.exit_code == 1
    assert not marker.exists()


def test_metrics_that_were_cut_or_damaged(tiny, tmp_path, monkeypatch):
    file = interrupted(tiny, tmp_path, monkeypatch) / "metrics.jsonl"
    whole = file.read_bytes()
    for damaged in (whole[:100], b"x" + whole[1:]):
        file.write_bytes(damaged)
        result = call(tiny, "--out", tmp_path)
        assert result.exit_code == 1
        assert "--force" in result.stderr
    file.write_bytes(whole + b'{"step": 61, "half a ro')
    assert call(tiny, "--out", tmp_path).exit_code == 0
    assert file.read_bytes() == whole


@pytest.mark.parametrize("after", [0, 1, 2, 3, 5])
def test_a_full_disk_leaves_no_half_written_file(tiny, tmp_path, after):
    """The disk is full from the ``after``-th flush on; once there is room again, the run goes on and ends the same."""
    call(tiny, "--out", tmp_path / "whole")
    out = tmp_path / "full"
    with full_disk(after):
        result = call(tiny, "--out", out)
    assert result.exit_code == 1
    assert "No space left on device" in result.stderr
    directory = run_directory(out)
    assert {file.name for file in directory.iterdir()} <= FILES - {"done.json"} | {".lock", "error.txt"}
    if (directory / "checkpoint.pt").exists():
        checkpoint.load(directory / "checkpoint.pt", f"tiny/{directory.name}")
    assert call(tiny, "--out", out).exit_code == 0
    assert_same_run(run_directory(tmp_path / "whole"), directory)


def test_a_file_that_may_not_grow(tiny, tmp_path, latent_command):
    """A limit of the operating system on the size of files, as a quota is: writing fails in the middle of a file."""
    command = [*latent_command, "run", str(tiny), "--out", str(tmp_path)]
    limit = ["bash", "-c", 'ulimit -f 8; exec "$@"', "bash", *command]
    result = subprocess.run(limit, capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 1
    assert "File too large" in result.stderr
    assert "Traceback" not in result.stderr
    assert {file.name for file in run_directory(tmp_path).iterdir()} <= {
        "config.yaml",
        "env.json",
        "error.txt",
        ".lock",
        "metrics.jsonl",
    }
    assert subprocess.run(command, capture_output=True, cwd=ROOT).returncode == 0


def test_line_100_is_shown_as_a_number(tiny, tmp_path):
    tiny.write_text("#\n" * 99 + "stepz: 1\n" + tiny.read_text())
    assert ":100:1: stepz" in call(tiny, "--out", tmp_path).stderr.replace("\n", "")


def test_list_shows_every_part_with_its_options():
    result = CliRunner().invoke(app, ["list"])
    assert result.exit_code == 0
    for word in ("score_function", "leave_one_out", "temperature", "signal_game", "vocabulary_size", "emoji", "alpha"):
        assert word in result.stdout


def test_schema_is_json():
    result = CliRunner().invoke(app, ["schema"])
    assert json.loads(result.stdout)["$schema"].startswith("https://json-schema.org")


def test_help_teaches():
    result = CliRunner().invoke(app, ["run", "--help"])
    assert "latent run configs/signal_game/dense.yaml seed=3" in result.stdout
