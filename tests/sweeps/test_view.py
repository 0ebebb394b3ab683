"""What a sweep says while it is under way: what is left, how runs stand, and who still has to start what."""

import json
import os

import pytest
from rich.console import Console

from latent.experiment.run_directory import RunDirectory
from latent.sweeps import view
from latent.sweeps.board import Board
from latent.sweeps.launchers import at_a_time
from latent.sweeps.plan import Resources, plan
from latent.sweeps.waiting import Waiting


@pytest.fixture
def runs(configurations, tmp_path):
    """Two runs of each of two estimators, forty steps each."""
    planned = plan(configurations, [], tmp_path, 2)
    for run in planned:
        run.write()
    return planned


def write_rows(run, *rows):
    run.directory.metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))


def row(step, **others):
    return {"step": step, "time/seconds": step / 10, "train/decoder_calls": 2.0, "train/success_rate": 0.25} | others


def test_time_left_depends_on_how_many_run_at_a_time(runs):
    steps = runs[0].steps
    assert Board(runs).seconds_left(2) is None
    write_rows(runs[0], row(steps // 2))
    board = Board(runs)
    whole = steps / 10
    assert board.seconds_left(1) == pytest.approx(3.5 * whole)
    assert board.seconds_left(2) == pytest.approx(3.5 * whole / 2)
    assert board.seconds_left(100) == pytest.approx(whole), "no run can be divided"
    assert board.seconds_left(1, again=board.standings) == pytest.approx(4 * whole)


@pytest.mark.parametrize(
    ("launcher", "workers", "expected"), [("debug", 3, 1), ("local", 3, 3), ("ray", 3, 3), ("slurm", None, 4), ("ray", None, 4)]
)
def test_runs_at_a_time(runs, launcher, workers, expected):
    assert at_a_time(Resources(launcher, workers, None, {}, None), runs) == expected


@pytest.mark.parametrize(
    ("device", "threads", "gpus", "expected"),
    [("cpu", 1, None, 8), ("cpu", 3, None, 2), ("cuda", 1, None, 1), ("cuda:1", 1, 0.25, 4), ("cuda", 1, 0.01, 8)],
)
def test_a_machine_has_room_for_threads_and_shares_of_devices(runs, monkeypatch, device, threads, gpus, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    for run in runs:
        run.configuration.update(device=device, threads=threads)
    assert at_a_time(Resources("local", None, gpus, {}, None), runs) == expected


@pytest.mark.parametrize("dry", [True, False])
def test_what_is_shown_is_of_as_many_as_are_run(configurations, sweep, monkeypatch, tmp_path, dry):
    shown = []

    class Spy(view.View):
        def __init__(self, board, workers, console):
            shown.append(workers)
            super().__init__(board, workers, console)

    monkeypatch.setattr(view, "View", Spy)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2}, raising=False)
    result = sweep(*configurations, "--seeds", "2", "--out", tmp_path / "out", *["--dry-run"] * dry, launcher="local")
    assert result.exit_code == 0, result.stderr
    assert shown == [3] * (not dry)
    assert not dry or "time left: not known" in result.stdout


def test_the_last_evaluation_is_shown_and_before_it_training(runs):
    write_rows(runs[0], row(3))
    write_rows(runs[1], row(3, **{"val/success_rate": 0.5}), row(5), {"step": 5, "probe/bias": 1.0})
    for run in runs[:2]:
        run.directory.lock.touch()
    with runs[0].directory.locked(), runs[1].directory.locked():
        console = Console(record=True, width=150)
        console.print(view.View(Board(runs), 2, console)._drawn())
    text = console.export_text()
    assert "25.0% in training" in text
    (line,) = (line for line in text.splitlines() if f" {runs[1].directory.path.name} " in line)
    assert "50.0%" in line
    assert "training" not in line
    assert f"5/{runs[1].steps}" in line


def test_what_others_have_brought_to_an_end_is_not_started(runs):
    """Nor a run that has failed meanwhile, which would fail again; one that had failed before is asked for."""
    paths = [run.directory.path for run in runs]
    RunDirectory(paths[3]).error.write_text("before")
    waiting = Waiting(paths)
    RunDirectory(paths[0]).error.write_text("meanwhile")
    RunDirectory(paths[1]).finish({"run": "a", "task": "b", "estimator": "c", "seed": 0, "step": 1})
    with runs[2].directory.locked():
        assert waiting.take(4) == [paths[3]]
    assert waiting, "one is in use"
    waiting._aside[paths[2]] = 0.0
    assert waiting.take(4) == [paths[2]]
    assert not waiting
