"""Table of the finished runs of an experiment: mean and sample standard deviation over seeds, and runs.csv with every run.

python results/summarise.py results/signal_game > table.md
"""

from __future__ import annotations

import csv
import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from estimators.catalogue import label
from latent.experiment import parts
from latent.experiment.run_directory import RunError
from latent.reports.finished import ResultsError, read_runs

Column = tuple[str, float, str]
"""Heading, factor, format."""

CALLS: dict[str, Column] = {
    "test/decoder_calls": ("decoder calls per example, at the end", 1, "{:.2f}"),
    "total_decoder_calls": ("rows decoded in training", 1, "{:,.0f}"),
}
BOUND: dict[str, Column] = {
    "test/elbo": ("test ELBO (nats)", 1, "{:.2f}"),
    "test/distortion": ("distortion (nats)", 1, "{:.2f}"),
    "test/rate": ("rate (nats)", 1, "{:.2f}"),
}
MINUTES: dict[str, Column] = {"time/seconds": ("minutes of one core", 1 / 60, "{:.1f}")}
COLUMNS: dict[str, dict[str, Column]] = {
    "signal_game": {
        "test/success_rate": ("test success, most likely message", 100, "{:.2f}"),
        "test/expected_success_rate": ("test success, expected", 100, "{:.2f}"),
        **CALLS,
        "test/messages_in_use": ("messages in use", 1, "{:.0f}"),
    },
    "vae": {**BOUND, "test/log_likelihood": ("log-likelihood (nats)", 1, "{:.2f}"), **CALLS},
    "bit_vector_vae": {"test/bits_per_dim": ("bits per dimension", 1, "{:.3f}"), **BOUND, **CALLS, **MINUTES},
    "ssvae": {"test/accuracy": ("test accuracy, %", 100, "{:.2f}"), **BOUND, **CALLS, **MINUTES},
}
SETTINGS = {
    "signal_game": {"entropy coefficient": ("game", "entropy_coefficient")},
    "bit_vector_vae": {"bits": ("model", "bits")},
}
"""Columns from the configuration, besides estimator and learning rate, by task."""


def written(configuration: dict[str, Any]) -> str:
    """An estimator with the options that are not its defaults."""
    options = dict(configuration["estimator"])
    name = options.pop("name")
    fields = parts.options_model(parts.estimators()[name]).model_fields
    return label(name, {key: value for key, value in options.items() if value != fields[key].default})


def read(folder: Path) -> tuple[str, list[dict[str, Any]], list[str]]:
    """The task, a row for each finished run, and the names of the columns that tell configurations apart."""
    runs, task = [], ""
    settings: dict[str, tuple[str, str]] = {}
    for run in read_runs([folder]):
        configuration, summary = run["configuration"], run["summary"]
        task = configuration["task"]
        settings = {"learning rate": ("train", "learning_rate"), **SETTINGS.get(task, {})}
        keys = {"estimator": written(configuration)}
        keys |= {name: configuration[block][option] for name, (block, option) in settings.items()}
        metrics = {name: value for name, value in summary.items() if name in COLUMNS[task] or name.startswith("val/")}
        runs.append(keys | {"seed": configuration["seed"], "step": summary["step"]} | metrics)
    return task, runs, ["estimator", *settings]


def main(folder: Path) -> None:
    """Write runs.csv and print the table."""
    task, runs, names = read(folder)
    columns = COLUMNS[task]
    with (folder / "runs.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, runs[0])
        writer.writeheader()
        writer.writerows(runs)
    groups = defaultdict(list)
    for run in runs:
        groups[tuple(run[name] for name in (*names, "step"))].append(run)
    headings = [*names, "steps", "seeds", *(heading for heading, _, _ in columns.values())]
    print("|", " | ".join(headings), "|")
    print("|" + "---|" * len(headings))
    for group, members in sorted(groups.items(), key=lambda group: (-len(group[1]), group[0])):
        cells = [f"{value:g}" if isinstance(value, float) else f"{value}" for value in group] + [str(len(members))]
        for key, (_, scale, form) in columns.items():
            values = [scale * member[key] for member in members]
            spread = f" ± {form.format(statistics.stdev(values))}" if len(values) > 1 else ""
            cells.append(form.format(statistics.mean(values)) + spread)
        print("|", " | ".join(cells), "|")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except (ResultsError, RunError) as error:
        sys.exit(f"error: {error}")
