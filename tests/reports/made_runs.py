"""Run directories made up for tests of reports: quick to write, in the format of real ones, with foreseeable curves."""

from __future__ import annotations

import hashlib
import json
import math
import re
from pathlib import Path
from typing import Any

import yaml

from latent.experiment.run_directory import RunDirectory

HEADLINES = {"signal_game": "success_rate", "vae": "elbo", "ssvae": "accuracy"}


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
    block = {"name": estimator} if isinstance(estimator, str) else estimator
    configuration: dict[str, Any] = {
        "experiment": experiment or task,
        "seed": seed,
        "task": task,
        "estimator": block,
        "data": {"name": "emoji" if task == "signal_game" else "digits"},
        "train": {"steps": steps, "warm_start_steps": 0, "learning_rate": 0.001},
    }
    for key, value in {**{key.replace("__", "."): value for key, value in settings.items()}, **(grid or {})}.items():
        *blocks, last = key.split(".")
        inner = configuration
        for name in blocks:
            inner = inner.setdefault(name, {})
        inner[last] = value
    known = json.dumps({key: value for key, value in configuration.items() if key != "seed"}, sort_keys=True)
    digest = hashlib.sha256(known.encode()).hexdigest()[:8]
    name = f"{re.sub('[^a-z_]', '_', block['name'])}-s{seed}-{digest}"
    run = RunDirectory(folder / configuration["experiment"] / "runs" / name)
    run.path.mkdir(parents=True)
    run.configuration.write_text(yaml.safe_dump(configuration))
    if grid is not None:
        run.write_plan(grid)
    last = {"finished": steps, "planned": 0}.get(state, steps // 2)
    rows = [row(task, block["name"], seed, step, level, probes) for step in range(every, last + 1, every)]
    if state == "finished":
        rows[-1] |= ends(task, rows[-1])
        names = {"run": f"{configuration['experiment']}/{name}", "task": task, "estimator": block["name"], "seed": seed}
        run.done.write_text(json.dumps(names | rows[-1]))
    if state == "failed":
        run.error.write_text("Traceback (most recent call last):\n  File ...\nDiverged: the norm of the gradient is nan\n")
    if rows:
        run.metrics.write_text("".join(json.dumps(each) + "\n" for each in rows))
    return run


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
