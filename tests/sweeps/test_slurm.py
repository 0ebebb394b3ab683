"""Slurm: submitit's own executors, and a stand-in for Slurm's commands; time-outs, jobs that are lost, and what is refused."""

import importlib.util
import os
import shutil
import signal
import stat
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from latent.sweeps import slurm as slurm_launcher
from latent.sweeps import slurm_job
from latent.sweeps.launcher import LauncherError, Stopped
from latent.sweeps.launchers import launcher_for
from latent.sweeps.plan import resources
from tests.processes import holder
from tests.sweeps.clusters import (
    checkpoint_step,
    directories,
    launch,
    launcher,
    planned,
    results,
    steps_done,
    undisturbed,
)
from tests.sweeps.conftest import table
from tests.test_docs import blocks

submitit = pytest.importorskip("submitit")
LONG = ["train.steps=1500", "train.log_every=20", "train.evaluate_every=500", "train.checkpoint_every=1500"]


@pytest.fixture(autouse=True)
def looking_often(monkeypatch):
    """What a tick is to find in the middle of a run is not over before it looks."""
    monkeypatch.setattr(slurm_launcher, "SECONDS_BETWEEN_LOOKS", 0.02)


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Slurm's commands on the PATH; returns the folder of what they know."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    source = Path(__file__).with_name("slurm_stand_in.py").read_text()
    for name in ("sbatch", "squeue", "srun", "scontrol"):
        (folder / name).write_text(f"#!{sys.executable}\n{source}")
        (folder / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    monkeypatch.setattr(slurm_job, "SECONDS_BETWEEN_LOOKS", 0.5)
    monkeypatch.setattr(slurm_job, "SECONDS_TO_APPEAR", 1.0)
    return folder / "state"


def log_of(run, ending="out"):
    """All that submitit has logged of a sweep's jobs."""
    return "".join(file.read_text() for file in run.directory.path.parents[1].glob(f".slurm/*_log.{ending}"))


@pytest.mark.parametrize("cluster", ["debug", "local"])
def test_submitits_executors_and_a_run_that_fails(cluster, configurations, sweep, tmp_path):
    configurations[1].write_text(configurations[1].read_text() + "train:\n  learning_rate: 1e30\n")
    with configurations[0].open("a") as file:
        file.write(f"sweep:\n  slurm:\n    cluster: {cluster}\n    timeout_min: 5\n")
    result = sweep(*configurations, "--out", tmp_path / "out", launcher="slurm")
    assert result.exit_code == 1
    assert "1 finished, 1 failed" in result.stderr
    assert "error.txt" in result.stderr
    assert "Traceback" not in result.stderr
    summaries, rows = undisturbed(configurations[:1], tmp_path, 1)
    assert len(summaries) == 1
    assert results(tmp_path / "out")[0] == summaries
    assert results(tmp_path / "out")[1].items() >= rows.items()


def test_a_timeout_in_the_middle_of_a_run_queues_it_again(configurations, tmp_path):
    out = tmp_path / "out"
    (run,) = planned(configurations[:1], out, 1, *LONG)
    interrupted_at = []

    def tick():
        if not interrupted_at and steps_done(run):
            os.kill(holder(run.directory.path), signal.SIGUSR2)  # what Slurm sends ahead of the limit
            interrupted_at.append(0)
        if interrupted_at == [0] and run.directory.checkpoint.exists():
            interrupted_at.append(checkpoint_step(run))

    assert launch("slurm", [run], tick, slurm={"cluster": "local", "timeout_min": 5}) == {}
    assert 0 < interrupted_at[1] < 1500, "a checkpoint that is not the periodic one"
    log = log_of(run)
    assert log.count("this job is timed-out") == 1
    assert "(19 remaining timeouts)" in log
    assert log.count("Starting with") == 2
    assert results(out) == undisturbed(configurations[:1], tmp_path, 1, *LONG)
    assert table(out) == table(tmp_path / "undisturbed")


def test_too_many_timeouts(configurations, tmp_path):
    (run,) = planned(configurations[:1], tmp_path, 1, *LONG)

    def tick():
        if steps_done(run) and (worker := holder(run.directory.path)):
            os.kill(worker, signal.SIGUSR2)

    parameters = {"cluster": "local", "timeout_min": 5, "local_max_num_timeout": 0}
    (message,) = launch("slurm", [run], tick, slurm=parameters).values()
    assert "Job not requeued because: timed-out too many times" in message
    assert ".slurm/" in message
    assert run.directory.state() == "stopped"
    assert 0 < checkpoint_step(run) < 1500


def test_jobs_outlive_the_command_and_are_not_submitted_twice(slurm, configurations, tmp_path, capsys):
    """The first command is stopped; the second finds its jobs, of which one is preempted and one lost; a third mends that."""
    out = tmp_path / "out"
    longer = ["train.steps=3000", *LONG[1:]]  # no job may end before the first command is stopped
    runs = planned(configurations[:1], out, 2, *longer)
    calls = slurm / "calls"

    def stop():
        if steps_done(runs[0]):
            raise KeyboardInterrupt

    with pytest.raises(Stopped):
        launch("slurm", runs, stop)
    assert "scancel 100" in capsys.readouterr().err
    assert runs[0].directory.state() == "running"
    (script,) = (out / "tiny" / ".slurm").glob("*_submission.sh")
    assert "#SBATCH --array=0-1%2\n" in script.read_text()
    assert "#SBATCH --time=60\n" in script.read_text()
    assert "gpus" not in script.read_text()
    os.kill(holder(runs[0].directory.path), signal.SIGUSR2)
    assert {file.stem for file in slurm.glob("*.queued")} == {"100_0", "100_1"}, [log_of(run) for run in runs]
    lost = []

    def lose():
        if steps_done(runs[1]) and not lost:
            lost.append(holder(runs[1].directory.path))
            os.kill(lost[0], signal.SIGKILL)

    crashes = launch("slurm", runs, lose)
    assert calls.read_text().count("sbatch") == 1
    assert list(crashes) == [runs[1].directory.path]
    assert "job 100_1 ended before the run did" in crashes[runs[1].directory.path]
    log = log_of(runs[0])
    assert (log.count("this job is preempted"), log.count("Requeued job 100_0")) == (1, 1)
    assert [run.directory.state() for run in runs] == ["finished", "stopped"]
    assert launch("slurm", runs[1:]) == {}
    assert calls.read_text().count("sbatch") == 2
    assert results(out) == undisturbed(configurations[:1], tmp_path, 2, *longer)
    assert table(out) == table(tmp_path / "undisturbed")


def test_the_example_of_the_docs(slurm, configurations, tmp_path):
    example = blocks("docs/clusters.md", "yaml")[1]
    (tmp_path / "example.yaml").write_text(example)
    needed = resources([tmp_path / "example.yaml"], None, None, None)
    runs = planned(configurations, tmp_path, 2, "train.steps=1")
    runs += planned(configurations[:1], tmp_path, 1, "train.steps=1", "threads=2")
    assert launcher_for(replace(needed, gpus=1, workers=4), runs)(directories(runs), lambda: None) == {}
    scripts = sorted((tmp_path / "tiny" / ".slurm").glob("*_submission.sh"))
    given = [{line.removeprefix("#SBATCH --") for line in script.read_text().splitlines()} for script in scripts]
    assert len(given) == 2, "an array for each number of threads"
    assert all(each >= {"partition=gpu", "time=240", "mem=8GB", "signal=USR2@120", "gpus-per-node=1"} for each in given)
    assert given[0] >= {"array=0-3%2", "cpus-per-task=1", "job-name=latent-tiny"}
    assert given[1] >= {"cpus-per-task=2"}


def test_what_is_refused(slurm, configurations, tmp_path, monkeypatch):
    runs = planned(configurations[:1], tmp_path, 1)
    for parameters, words in (
        ({"slurm_partitoin": "gpu"}, "sweep.slurm: .*'slurm_partitoin'"),
        ({"partition": "gpu"}, "sweep.slurm: .*'partition'"),
        ({"timeout_min": "soon"}, "timeout_min"),
        ({"cluster": "condor"}, "cluster must be one of slurm, local, debug, got 'condor'"),
        ({"nodes": 2}, "nodes must be 1"),
    ):
        with pytest.raises(LauncherError, match=words):
            launcher("slurm", runs, slurm=parameters)
    with pytest.raises(LauncherError, match=r"a whole number with Slurm, got 0\.5"):
        launcher("slurm", runs, gpus=0.5)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(LauncherError, match="needs the command sbatch"):
        launcher("slurm", runs)
    assert not list(tmp_path.glob("tiny/.slurm/*"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(LauncherError, match=r"pip install 'discrete-latent\[slurm\]'"):
        launcher("slurm", runs)


def test_slurm_that_does_not_answer(slurm, configurations, tmp_path):
    runs = planned(configurations[:1], tmp_path, 1)
    (runs[0].directory.path / "job.json").write_text('{"job": "100_0"}')
    (slurm.parent / "squeue").write_text("#!/bin/sh\necho 'Unable to contact slurm controller' >&2\nexit 1\n")
    with pytest.raises(LauncherError, match="squeue does not answer"):
        launch("slurm", runs)
    (slurm.parent / "sbatch").write_text("#!/bin/sh\necho 'sbatch: error: invalid partition specified' >&2\nexit 1\n")
    (runs[0].directory.path / "job.json").unlink()
    with pytest.raises(LauncherError, match=r"the jobs are refused: .*invalid partition"):
        launch("slurm", runs)
