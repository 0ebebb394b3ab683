"""Run directories that nobody trained, in the format of real ones: as given, or with foreseeable curves."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from latent.experiment.run_directory import RunDirectory

HEADLINES = {"signal_game": "success_rate", "vae": "elbo", "ssvae": "accuracy"}


def write_run(
    folder: Path,
    estimator: str | dict[str, Any],
    seed: int = 0,
    digest: str = "0123abcd",
    *,
    task: str = "signal_game",
    data: str = "emoji",
    experiment: str | None = None,
    state: str = "finished",
    rows: Sequence[dict[str, Any]] = (),
    grid: dict[str, Any] | None = None,
    settings: dict[str, Any] | None = None,
    anew: bool = False,
    **summary: Any,
) -> RunDirectory:
    """A run as it is given: rows of metrics, and a summary with two underscores for the slash.

    ``settings`` have dotted keys; ``anew``: it takes the place of one that is there.
    """
    configuration = _configuration(estimator, seed, task, data, experiment, (settings or {}) | (grid or {}))
    name = configuration["estimator"]["name"]
    run = RunDirectory(folder / configuration["experiment"] / "runs" / f"{re.sub('[^a-z0-9_]', '_', name)}-s{seed}-{digest}")
    run.path.mkdir(parents=True, exist_ok=anew)
    run.configuration.write_text(yaml.safe_dump(configuration, sort_keys=False))
    if grid is not None:
        run.write_plan(grid)
    if rows or state == "stopped":
        run.metrics.write_text("".join(json.dumps(each) + "\n" for each in rows))
    if state == "failed":
        run.error.write_text("Traceback (most recent call last):\n  File ...\nDiverged: the norm of the gradient is nan\n")
    if state == "finished":
        names = {
            "run": f"{configuration['experiment']}/{run.path.name}",
            "task": task,
            "estimator": name,
            "seed": seed,
            "step": 9,
        }
        run.done.write_text(json.dumps(names | {key.replace("__", "/"): value for key, value in summary.items()}))
    return run


def made_run(
    folder: Path,
    estimator: str | dict[str, Any],
    seed: int = 0,
    *,
    task: str = "signal_game",
    experiment: str | None = None,
    state: str = "finished",
    steps: int = 100,
    every: int = 10,
    grid: dict[str, Any] | None = None,
    level: float = 0.8,
    probes: bool = False,
    **settings: Any,
) -> RunDirectory:
    """A run of ``steps`` with a row every so many; unfinished ones stop half way, planned ones have none.

    ``level`` is where the headline metric tends to; ``settings`` have two underscores for the dot.
    """
    data = "emoji" if task == "signal_game" else "digits"
    train = {"train.steps": steps, "train.warm_start_steps": 0, "train.learning_rate": 0.001}
    given = train | {key.replace("__", "."): value for key, value in settings.items()}
    configuration = _configuration(estimator, None, task, data, experiment, given | (grid or {}))
    digest = hashlib.sha256(json.dumps(configuration, sort_keys=True).encode()).hexdigest()[:8]
    last = {"finished": steps, "planned": 0}.get(state, steps // 2)
    name = configuration["estimator"]["name"]
    rows = [row(task, name, seed, step, level, probes) for step in range(every, last + 1, every)]
    if state == "finished":
        rows[-1] |= ends(task, rows[-1])
    return write_run(
        folder,
        estimator,
        seed,
        digest,
        task=task,
        data=data,
        experiment=experiment,
        state=state,
        rows=rows,
        grid=grid,
        settings=given,
        **(rows[-1] if state == "finished" else {}),
    )


def _configuration(
    estimator: str | dict[str, Any], seed: int | None, task: str, data: str, experiment: str | None, settings: dict[str, Any]
) -> dict[str, Any]:
    """A run's configuration, with settings by their dotted keys."""
    configuration: dict[str, Any] = {
        "experiment": experiment or task,
        "task": task,
        "seed": seed,
        "estimator": {"name": estimator} if isinstance(estimator, str) else dict(estimator),
        "data": {"name": data},
    }
    for key, value in settings.items():
        *blocks, last = key.split(".")
        inner = configuration
        for block in blocks:
            inner = inner.setdefault(block, {})
        inner[last] = value
    return configuration


def evaluations(metric: str, *pairs: tuple[float, float | None]) -> list[dict[str, Any]]:
    """Rows of metrics: decoder calls so far with validation's value, None for a row without an evaluation."""
    rows = []
    for step, (calls, value) in enumerate(pairs, 1):
        found = {"step": step, "total_decoder_calls": calls, "train/decoder_calls": 2.0, "train/entropy": 0.5}
        rows.append(found | ({} if value is None else {metric: value}) | {"time/seconds": 0.1 * step})
    return rows


def row(task: str, estimator: str, seed: int, step: int, level: float, probes: bool) -> dict[str, Any]:
    """A row of metrics after ``step``, which differs from seed to seed."""
    calls = {"dense": 256.0, "sparsemax": 3 + 40 * math.exp(-step / 30)}.get(estimator, 1.0)
    total = 3 * step + 1200 * (1 - math.exp(-step / 30)) if estimator == "sparsemax" else calls * step
    headline = level * (1 - math.exp(-step / 20)) + 0.01 * math.sin(7 * seed + step)
    found: dict[str, Any] = {
        "step": step,
        "total_decoder_calls": round(64 * total) + seed,
        "train/loss": 1 / step,
        "train/decoder_calls": calls,
        "train/entropy": 5 * math.exp(-step / 40) + 0.1 * seed,
        "grad_norm/sender": 1.5,
        "time/seconds": 0.01 * step * (1 + 0.1 * seed),
        f"val/{HEADLINES[task]}": headline - (100 if task == "vae" else 0),
        "val/decoder_calls": calls,
    }
    if task == "signal_game":
        found |= {"val/messages_in_use": 20 + step, "val/expected_success_rate": headline - 0.02, "val/loss": 1 - headline}
    else:
        found |= {"val/elbo": headline - 100, "val/rate": 8 + 0.1 * seed, "val/distortion": 92 - headline}
    if probes:
        found |= {"probe/variance": 50 / step + seed, "probe/cosine": 0.5 + 0.1 * seed, "probe/bias": 0.2}
    return found


def ends(task: str, last: dict[str, Any]) -> dict[str, Any]:
    """What a run measures on the test split, a little below validation."""
    found = {f"test/{key[4:]}": value * 0.99 for key, value in last.items() if key.startswith("val/")}
    if task != "signal_game":
        found["test/bits_per_dim"] = -found["test/elbo"] / 64 / math.log(2)
    return found
