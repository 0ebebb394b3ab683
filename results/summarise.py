"""Table of the finished runs of an experiment: mean and sample standard deviation over seeds, and runs.csv with every run.

python results/summarise.py results/signal_game > table.md
"""

from __future__ import annotations

import csv
import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import yaml

from estimators.catalogue import label
from latent.experiment import parts

COLUMNS = {
    "test/success_rate": ("test success, most likely message", 100, "{:.2f}"),
    "test/expected_success_rate": ("test success, expected", 100, "{:.2f}"),
    "test/decoder_calls": ("decoder calls per example, at the end", 1, "{:.2f}"),
    "total_decoder_calls": ("rows decoded in training", 1, "{:,.0f}"),
    "test/messages_in_use": ("messages in use", 1, "{:.0f}"),
}


def written(configuration: dict[str, Any]) -> str:
    """An estimator with the options that are not its defaults."""
    options = dict(configuration["estimator"])
    name = options.pop("name")
    fields = parts.options_model(parts.estimators()[name]).model_fields
    return label(name, {key: value for key, value in options.items() if value != fields[key].default})


def main(folder: Path) -> None:
    """Write runs.csv and print the table."""
    runs = []
    for done in sorted(folder.glob("runs/*/done.json")):
        configuration = yaml.safe_load((done.parent / "config.yaml").read_text())
        keys = {
            "estimator": written(configuration),
            "seed": configuration["seed"],
            "learning_rate": configuration["train"]["learning_rate"],
            "entropy_coefficient": configuration["game"]["entropy_coefficient"],
        }
        summary = json.loads(done.read_text())
        runs.append(keys | {key: summary[key] for key in ("step", "val/success_rate", *COLUMNS)})
    with (folder / "runs.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, runs[0])
        writer.writeheader()
        writer.writerows(runs)
    groups = defaultdict(list)
    for run in runs:
        groups[run["estimator"], run["learning_rate"], run["entropy_coefficient"]].append(run)
    headings = [heading for heading, _, _ in COLUMNS.values()]
    print("| estimator | learning rate | entropy coefficient | seeds |", " | ".join(headings), "|")
    print("|---|---|---|---|" + "---|" * len(headings))
    for (estimator, rate, coefficient), members in sorted(groups.items(), key=lambda group: (-len(group[1]), group[0])):
        cells = [estimator, f"{rate:g}", f"{coefficient:g}", str(len(members))]
        for key, (_, scale, form) in COLUMNS.items():
            values = [scale * member[key] for member in members]
            spread = f" ± {form.format(statistics.stdev(values))}" if len(values) > 1 else ""
            cells.append(form.format(statistics.mean(values)) + spread)
        print("|", " | ".join(cells), "|")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
