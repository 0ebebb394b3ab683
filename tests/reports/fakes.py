"""Runs on disk that nobody trained."""

import json

import yaml


def write_run(
    folder,
    estimator,
    seed=0,
    digest="0123abcd",
    task="signal_game",
    data="emoji",
    state="finished",
    rows=(),
    grid=None,
    settings=None,
    experiment=None,
    **summary,
):
    """A run's directory; metrics are written with two underscores for the slash, rows of metrics as they are."""
    estimator = {"name": estimator} if isinstance(estimator, str) else estimator
    experiment = experiment or task
    directory = folder / experiment / "runs" / f"{estimator['name']}-s{seed}-{digest}"
    directory.mkdir(parents=True)
    configuration = {"experiment": experiment, "task": task, "seed": seed, "estimator": dict(estimator), "data": {"name": data}}
    for key, value in ((settings or {}) | (grid or {})).items():
        block, _, option = key.partition(".")
        configuration |= {block: configuration.get(block, {}) | {option: value}} if option else {block: value}
    (directory / "config.yaml").write_text(yaml.safe_dump(configuration, sort_keys=False))
    if grid is not None:
        (directory / "plan.json").write_text(json.dumps({"grid": grid}))
    if rows or state == "stopped":
        (directory / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if state == "failed":
        (directory / "error.txt").write_text("diverged\n")
    if state == "finished":
        names = {"run": f"{experiment}/{directory.name}", "task": task, "estimator": estimator["name"], "seed": seed, "step": 9}
        metrics = {key.replace("__", "/"): value for key, value in summary.items()}
        (directory / "done.json").write_text(json.dumps(names | metrics))
    return directory


def evaluations(metric, *pairs):
    """Rows of ``metrics.jsonl``: decoder calls so far with validation's value, None for a row without an evaluation."""
    rows = []
    for step, (calls, value) in enumerate(pairs, 1):
        row = {"step": step, "total_decoder_calls": calls, "train/decoder_calls": 2.0, "train/entropy": 0.5}
        rows.append(row | ({} if value is None else {metric: value}) | {"time/seconds": 0.1 * step})
    return rows
