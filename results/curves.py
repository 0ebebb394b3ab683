"""Learning curves of finished runs against wall time: curves.csv and curves.svg beside the runs.

python results/curves.py results/ssvae_published val/accuracy val/elbo train/decoder_calls
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import altair as alt

from latent.experiment.run_directory import RunError
from latent.reports.figures import COLOURS
from latent.reports.finished import ResultsError, estimator_labels, read_runs

TITLES = {
    "val/accuracy": "validation accuracy",
    "val/elbo": "validation ELBO (nats)",
    "train/decoder_calls": "decoder calls per image in training",
}
LOGARITHMIC = ("train/decoder_calls",)


def main(folder: Path, metrics: list[str]) -> None:
    """Write both files."""
    runs = read_runs([folder])
    rows = []
    for run, estimator in zip(runs, estimator_labels(runs), strict=True):
        seed = run["configuration"]["seed"]
        warm = run["configuration"]["train"]["warm_start_steps"]
        for line in (run["directory"] / "metrics.jsonl").read_text().splitlines():
            row = json.loads(line)
            if row["step"] > warm and "val/elbo" in row:
                keys = {"estimator": estimator, "seed": seed, "step": row["step"], "minutes": row["time/seconds"] / 60}
                rows.append(keys | {metric: row[metric] for metric in metrics})
    with (folder / "curves.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(
            {key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()} for row in rows
        )
    labels = sorted({row["estimator"] for row in rows})
    charts = []
    for metric in metrics:
        values = [{key: row[key] for key in ("estimator", "seed", "minutes")} | {"y": row[metric]} for row in rows]
        scale = alt.Scale(zero=False, type="log" if metric in LOGARITHMIC else "linear")
        charts.append(
            alt.Chart(alt.Data(values=values), width=300, height=240)
            .mark_line(strokeWidth=1.5)
            .encode(
                x=alt.X("minutes:Q", title="minutes of training, one thread"),
                y=alt.Y("y:Q", title=TITLES.get(metric, metric), scale=scale),
                color=alt.Color("estimator:N", title=None, scale=alt.Scale(domain=labels, range=list(COLOURS[: len(labels)]))),
                strokeDash=alt.StrokeDash("seed:N", title="seed"),
            )
        )
    alt.hconcat(*charts).save(str(folder / "curves.svg"))


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), sys.argv[2:])
    except (ResultsError, RunError) as error:
        sys.exit(f"error: {error}")
