"""Processes of this machine: what a sweep leaves, and what dies in between."""

import errno
import json
import os
import random
import signal
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from latent.commands.main import app
from latent.experiment.overrides import parse_override
from latent.experiment.run_directory import RunDirectory, RunError
from latent.reports.runs import read_rows, read_runs
from latent.sweeps.execution import execute_directory
from latent.sweeps.local import LocalLauncher
from latent.sweeps.plan import plan
from tests.conftest import ROOT
from tests.processes import ended, holder, start, wait_until
from tests.sweeps.conftest import summaries, table, write_configurations

pytestmark = pytest.mark.xdist_group("local")

LONG = ["train.steps=1500", "train.log_every=25", "train.evaluate_every=500", "train.checkpoint_every=50"]
ENDLESS = ["train.steps=1000000", "train.log_every=25", "train.evaluate_every=1000000", "train.checkpoint_every=1000000"]


def sweeping(latent_command, *arguments, mark="none"):
    """The command in a process of its own."""
    environment = os.environ | {"SWEEP_UNDER_TEST": mark}
    command = [*latent_command, "sweep", *arguments]
    return start(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment)


@pytest.fixture(scope="module")
def whole(sweep, tmp_path_factory):
    """Where the runs of LONG with two seeds are, undisturbed."""
    folder = tmp_path_factory.mktemp("whole")
    configurations = write_configurations(folder / "configurations")
    assert sweep(*configurations, *LONG, "--seeds", "2", "--out", folder / "out").exit_code == 0
    return folder / "out"


def processes(mark):
    """Every process of a sweep, wherever it was forked from."""
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"SWEEP_UNDER_TEST={mark}".encode() in environment.read_bytes().split(b"\0"):
                found.append(int(environment.parent.name))
        except OSError:
            continue  # it has ended, or is not ours
    return found


def finished(out):
    """When each finished run was finished."""
    return {file.parent.name: file.stat().st_mtime_ns for file in out.glob("*/runs/*/done.json")}


def rows_written(out):
    """Rows of metrics of all runs."""
    return sum(file.read_bytes().count(b"\n") for file in out.glob("*/runs/*/metrics.jsonl"))


def test_the_same_results_as_one_after_another_in_this_process(configurations, sweep, latent_command, tmp_path):
    arguments = [*configurations, "--seeds", "2"]
    assert sweep(*arguments, "--out", tmp_path / "debug").exit_code == 0
    said = ended(sweeping(latent_command, *arguments, "--out", tmp_path / "local", "--workers", "2"))
    assert "4 runs: 4 finished" in said
    assert len(summaries(tmp_path / "local")) == 4
    assert summaries(tmp_path / "local") == summaries(tmp_path / "debug")
    before = finished(tmp_path / "local")
    assert "nothing to run" in ended(sweeping(latent_command, *arguments, "--out", tmp_path / "local"))
    assert finished(tmp_path / "local") == before


def test_killed_at_ten_random_moments(configurations, whole, latent_command, tmp_path):
    """Half of the kills hit every process, half only the command's: its runs then stop by themselves."""
    arguments = [*configurations, *LONG, "--seeds", "2"]
    out, moments = tmp_path / "killed", random.Random(5)
    done: dict[str, int] = {}
    for kill in range(10):
        mark = f"{os.getpid()}-{kill}"
        process = sweeping(latent_command, *arguments, "--out", out, "--workers", "2", mark=mark)
        enough = rows_written(out) + moments.randint(4, 20)
        wait_until(lambda enough=enough: rows_written(out) >= enough, process, f"kill {kill}")
        assert process.poll() is None, f"the sweep had ended before kill {kill}"
        for victim in processes(mark) if kill % 2 else [process.pid]:
            try:
                os.kill(victim, signal.SIGKILL)
            except ProcessLookupError:
                continue
        process.communicate()
        for run, when in done.items():
            assert finished(out)[run] == when, f"{run} was run again"
        done = finished(out)
    assert len(done) < 4, "all runs had ended before the last kill"
    ended(sweeping(latent_command, *arguments, "--out", out, "--workers", "2"))
    assert len(summaries(out)) == 4
    assert summaries(out) == summaries(whole)
    assert [line["n"] for line in table(out)] == ["2", "2"]
    assert table(out) == table(whole)
    for run, when in done.items():
        assert finished(out)[run] == when
    for file in out.glob("*/runs/*/metrics.jsonl"):
        steps = [json.loads(line)["step"] for line in file.read_text().splitlines()]
        assert steps == list(range(25, 1501, 25))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_stops_every_run_with_a_checkpoint(number, configurations, latent_command, tmp_path):
    arguments = [*configurations, *ENDLESS, "--out", tmp_path, "--workers", "2"]
    process = sweeping(latent_command, *arguments, mark="ctrl-c")
    wait_until(lambda: rows_written(tmp_path), process)
    process.send_signal(number)
    assert "the same command goes on" in ended(process, 130)
    assert not processes("ctrl-c")
    stopped = list(tmp_path.glob("tiny/runs/*/checkpoint.pt"))
    assert stopped, "no checkpoint: the periodic one comes only at the end"
    assert not list(tmp_path.glob("tiny/runs/*/error.txt"))
    assert {RunDirectory(file.parent).state() for file in stopped} == {"stopped"}


def test_the_crash_of_one_run_touches_no_other(configurations, whole, latent_command, tmp_path):
    out = tmp_path / "out"
    arguments = [*configurations, *LONG, "--out", out, "--workers", "2"]
    process = sweeping(latent_command, *arguments, mark="crash")
    begun = wait_until(
        lambda: [file for file in out.glob("tiny/runs/sparsemax*/metrics.jsonl") if file.stat().st_size], process
    )
    os.kill(holder(begun[0].parent), signal.SIGKILL)
    said = ended(process, 1)
    assert "ended by SIGKILL" in said
    assert "1 finished, 1 stopped" in said
    assert [name.split("-")[0] for name in summaries(out)] == ["tiny/dense"]
    ended(sweeping(latent_command, *arguments))
    assert summaries(out) == {run: summary for run, summary in summaries(whole).items() if summary["seed"] == 0}


def test_two_commands_share_the_work(configurations, whole, latent_command, tmp_path):
    arguments = [*configurations, *LONG, "--seeds", "2", "--out", tmp_path / "out", "--workers", "1"]
    for process in [sweeping(latent_command, *arguments) for _ in range(2)]:
        ended(process)
    assert summaries(whole) == summaries(tmp_path / "out")
    assert len(summaries(tmp_path / "out")) == 4


def test_a_run_that_fails_is_listed_and_run_again_only_when_asked(configurations, sweep, tmp_path):
    configurations[1].write_text(configurations[1].read_text() + "train:\n  learning_rate: 1e30\n")
    arguments = [*configurations, "--out", tmp_path, "--seeds", "2"]
    result = sweep(*arguments)
    assert result.exit_code == 1
    assert "2 finished, 2 failed" in result.stderr
    assert result.stderr.count("error.txt") >= 2
    assert "--retry-failed" in result.stderr
    errors = {file: file.stat().st_mtime_ns for file in tmp_path.glob("tiny/runs/*/error.txt")}
    assert len(errors) == 2
    assert sweep(*arguments).exit_code == 1
    assert {file: file.stat().st_mtime_ns for file in errors} == errors
    assert sweep(*arguments, "--retry-failed").exit_code == 1
    assert all(file.stat().st_mtime_ns > when for file, when in errors.items())


def test_force_runs_all_anew(configurations, sweep, tmp_path):
    arguments = [configurations[0], "--out", tmp_path]
    assert sweep(*arguments).exit_code == 0
    before, ended = finished(tmp_path), summaries(tmp_path)
    assert sweep(*arguments, "--force").exit_code == 0
    assert summaries(tmp_path) == ended
    assert all(finished(tmp_path)[run] > when for run, when in before.items())


def test_a_damaged_run_fails_and_says_what_helps(configurations, sweep, tmp_path):
    arguments = [configurations[0], "--out", tmp_path]
    assert sweep(*arguments).exit_code == 0
    (done,) = tmp_path.glob("tiny/runs/*/done.json")
    done.write_text("{")
    result = sweep(*arguments)
    assert result.exit_code == 1
    assert "damaged" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_configuration_that_was_changed_by_hand_is_not_run(configurations, tmp_path):
    (run,) = plan(configurations[:1], [], tmp_path)
    run.write()
    path = run.directory.configuration
    path.write_text(path.read_text().replace("hidden_size: 8", "hidden_size: 9"))
    with pytest.raises(RunError, match="is not that of this run"):
        execute_directory(run.directory.path)
    assert run.directory.state() == "failed"


def test_a_run_that_cannot_write_fails_and_says_why(configurations, tmp_path):
    runs = plan(configurations[:1], [], tmp_path)
    for run in runs:
        run.write()
        run.directory.metrics.mkdir()  # nothing can be written there
    assert LocalLauncher(1)([run.directory.path for run in runs], lambda: None) == {}
    assert runs[0].directory.state() == "failed"
    assert "Is a directory" in runs[0].directory.error.read_text()


def test_force_forgets_nothing_where_a_run_is_in_use(configurations, sweep, tmp_path):
    arguments = [configurations[0], "--seeds", "2", "--out", tmp_path]
    assert sweep(*arguments).exit_code == 0
    before = finished(tmp_path)
    (held,) = tmp_path.glob("tiny/runs/*-s1-*")
    with RunDirectory(held).locked():
        result = sweep(*arguments, "--force")
    assert result.exit_code == 1
    assert "in use" in result.stderr
    assert finished(tmp_path) == before


def test_damaged_files_of_one_run_are_mended_without_the_others(configurations, sweep, tmp_path):
    arguments = [configurations[0], "--seeds", "2", "--out", tmp_path]
    assert sweep(*arguments).exit_code == 0
    ended, before = summaries(tmp_path), finished(tmp_path)
    for file in tmp_path.glob("tiny/runs/*-s1-*/*"):
        if file.name in ("done.json", "plan.json"):
            file.write_text("{")
    result = sweep(*arguments)
    assert result.exit_code == 1
    assert "1 finished, 1 failed" in result.stderr
    assert sweep(*arguments, "--retry-failed").exit_code == 0
    assert summaries(tmp_path) == ended
    (file,) = tmp_path.glob("tiny/runs/*-s1-*/metrics.jsonl")
    file.write_text("{\n")
    result = CliRunner().invoke(app, ["table", str(tmp_path)])
    assert "latent sweep --retry-failed runs it anew" in result.stderr
    assert sweep(*arguments, "--retry-failed").exit_code == 0
    file.with_name("config.yaml").unlink()
    assert sweep(*arguments).exit_code == 0
    assert len(read_rows(read_runs([tmp_path])[1])) > 1
    assert summaries(tmp_path) == ended
    (healthy,) = (run for run in before if "-s0-" in run)
    assert finished(tmp_path)[healthy] == before[healthy]


@pytest.mark.parametrize(("file", "size"), [("checkpoint.pt", 100), ("metrics.jsonl", 100)])
def test_a_stopped_run_that_cannot_go_on_is_mended_by_a_retry(configurations, sweep, tmp_path, file, size):
    arguments = [configurations[0], "--out", tmp_path]
    assert sweep(*arguments).exit_code == 0
    ended = summaries(tmp_path)
    (run,) = (RunDirectory(path) for path in tmp_path.glob("tiny/runs/*"))
    run.done.unlink()
    (run.path / file).write_bytes((run.path / file).read_bytes()[:size])
    result = sweep(*arguments)
    assert result.exit_code == 1
    assert "latent sweep --retry-failed runs it anew" in result.stderr
    assert "1 failed; to run: 1" in sweep(*arguments, "--retry-failed", "--dry-run").stdout
    assert sweep(*arguments, "--retry-failed").exit_code == 0
    assert summaries(tmp_path) == ended


def test_a_retry_forgets_nothing_that_cannot_be_read_for_the_moment(configurations, sweep, tmp_path, monkeypatch):
    arguments = [configurations[0], "--out", tmp_path]
    assert sweep(*arguments).exit_code == 0
    before = {file: file.stat().st_mtime_ns for file in tmp_path.glob("tiny/runs/*/*")}
    read = Path.read_bytes

    def stale(path):
        if path.name == "metrics.jsonl":
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return read(path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", stale)
        result = sweep(*arguments, "--retry-failed")
    assert result.exit_code == 1
    assert "cannot read" in result.stderr
    assert {file: file.stat().st_mtime_ns for file in tmp_path.glob("tiny/runs/*/*")} == before


def test_a_dry_run_counts_what_is_damaged(configurations, sweep, tmp_path):
    arguments = [configurations[0], "--seeds", "2", "--out", tmp_path]
    assert sweep(*arguments).exit_code == 0
    next(tmp_path.glob("tiny/runs/*-s1-*/metrics.jsonl")).write_text("{\n")
    assert "2 finished; to run: 0" in sweep(*arguments, "--dry-run").stdout
    assert "2 finished; to run: 1" in sweep(*arguments, "--dry-run", "--retry-failed").stdout
    assert "to run: 1" in sweep(*arguments, "--retry-failed").stderr


def test_runs_do_not_depend_on_the_working_directory(configurations, tmp_path, monkeypatch):
    features = ROOT / "games" / "datasets" / "emoji.npz"
    monkeypatch.chdir(features.parent)
    overrides = [parse_override(each) for each in ("data={name: features, path: emoji.npz}", "train.steps=1")]
    (run,) = plan(configurations[:1], overrides, tmp_path)
    run.write()
    monkeypatch.chdir(tmp_path)
    assert execute_directory(run.directory.path)["step"] == 1


def test_dry_run_runs_nothing(configurations, sweep, tmp_path):
    result = sweep(*configurations, "--seeds", "3", "--dry-run", "--out", tmp_path / "out")
    assert result.exit_code == 0
    assert "6 runs in 2 cells: 6 planned" in result.stdout
    assert not (tmp_path / "out").exists()
    assert sweep(configurations[0], "--seeds", "2", "--out", tmp_path / "out").exit_code == 0
    result = sweep(*configurations, "--seeds", "3", "--dry-run", "--out", tmp_path / "out")
    assert "6 runs in 2 cells: 2 finished, 4 planned; to run: 4" in result.stdout
    assert "about" in result.stdout
    for options, pending in ((["--force"], 6), (["--retry-failed"], 4)):
        result = sweep(*configurations, "--seeds", "3", "--dry-run", *options, "--out", tmp_path / "out")
        assert f"2 finished, 4 planned; to run: {pending}" in result.stdout


def test_wrong_input(configurations, sweep, tmp_path):
    for arguments, word in (
        ([tmp_path / "missing.yaml"], "cannot be read"),
        ([configurations[0], "train.stepz=3"], "did you mean 'steps'"),
        ([configurations[0], "--seeds", "many"], "a number of seeds"),
        ([configurations[0], "--seeds", ""], "a number of seeds"),
        ([configurations[0], "--grid", "train.steps"], "must be KEY=VALUE"),
        ([configurations[0], "--grid", "train.steps=1,2", "--grid", "train.steps=3"], "is given twice"),
        ([configurations[0], "--grid", "seed=1,2"], "cannot be in a grid"),
        ([configurations[0], "--grid", "train.checkpoint_every=1,2"], "cannot be in a grid"),
        (["train.steps=2"], "name the YAML file"),
        ([configurations[0], "--address", "auto"], "--address is that of a Ray cluster"),
    ):
        result = sweep(*arguments, "--out", tmp_path / "out")
        assert result.exit_code == 2, result.output
        assert word in result.stderr
        assert not (tmp_path / "out").exists()
    result = sweep(configurations[0], "--out", tmp_path / "out", launcher="slrum")
    assert result.exit_code == 2
    assert "slrum" in result.stderr
