"""The tables of a section, as plain data for the page's template: results, runs, and what configurations differ in."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latent.experiment.run_directory import RunDirectory
from latent.reports.finished import Run, in_words
from latent.reports.page.data import Section, Shown

Link = Callable[[Path], str]
"""The address of a run's file, as the page is to have it."""

SYMBOLS = {"finished": "✓", "running": "▸", "failed": "✕", "stopped": "‖", "planned": "○"}
FORMATS = {"%": "{:.2f}", "bits_per_dim": "{:.3f}", "total_decoder_calls": "{:,.0f}"}
"""By unit or by metric; all else has two decimal places."""


@dataclass(frozen=True)
class Value:
    """A mean and a sample standard deviation over seeds; the latter is None of one seed. ``text`` has both, rounded."""

    mean: float
    std: float | None
    text: str


def metrics(section: Section) -> list[str]:
    """The columns of the table of results: those of these metrics that a finished run has."""
    headline = section.headline
    names = dict.fromkeys(
        (
            f"test/{headline}",
            f"test/expected_{headline}",
            *(f"test/{name}" for name in ("elbo", "bits_per_dim", "rate", "distortion", "decoder_calls")),
            "total_decoder_calls",
        )
    )
    return [name for name in names if any(value_of(shown, name) for shown in section.shown)]


def value_of(shown: Shown, metric: str) -> Value | None:
    """A metric of the finished runs that stand for an estimator; None without one, and where one of them lacks it."""
    values = [run["summary"].get(metric) for run in shown.counted if run["state"] == "finished"]
    numbers = [float(value) for value in values if isinstance(value, int | float) and math.isfinite(value)]
    if not numbers or len(numbers) < len(values):
        return None
    mean, std = statistics.fmean(numbers), statistics.stdev(numbers) if len(numbers) > 1 else None
    return Value(mean, std, _written(metric, mean) + (f" ± {_written(metric, std)}" if std is not None else ""))


def _written(metric: str, value: float) -> str:
    unit = in_words(metric)[1]
    form = FORMATS.get(unit) or FORMATS.get(metric.partition("/")[2] or metric, "{:.2f}")
    return form.format(100 * value if unit == "%" else value).replace("-", "−")


def heading(metric: str) -> str:
    """``Test success rate, expected (%)``."""
    words, unit = in_words(metric)
    words = f"test {words}" if metric.startswith("test/") else words
    return words[0].upper() + words[1:] + (f" ({unit})" if unit else "")


def results(section: Section) -> list[dict[str, Any]]:
    """A line for each estimator of which a run is finished, best first."""
    columns = metrics(section)
    lines = [
        {
            "index": index,
            "label": shown.label,
            "settings": _settings(shown.settings | shown.cells[0].grid),
            "seeds": len(shown.counted),
            "values": [value_of(shown, metric) for metric in columns],
        }
        for index, shown in enumerate(section.shown)
        if shown.decided
    ]
    return sorted(lines, key=lambda line: -line["values"][0].mean if columns and line["values"][0] else math.inf)


def _settings(settings: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Dotted key, its last part (all of it where two have the same), and value."""
    last = {key: key.rpartition(".")[2] for key in settings}
    several = {name for name, count in Counter(last.values()).items() if count > 1}
    return [(key, key if last[key] in several else last[key], _plain(value)) for key, value in settings.items()]


def _plain(value: Any) -> str:
    return {True: "true", False: "false", None: "null"}[value] if value is None or isinstance(value, bool) else str(value)


def seeds(section: Section) -> list[int]:
    """The columns of the table of runs."""
    return sorted({run["configuration"]["seed"] for run in section.runs})


def run_lines(section: Section, link: Link) -> list[dict[str, Any]]:
    """A line for each cell, with what stands under each seed: the runs of that seed."""
    return [
        {
            "index": index,
            "label": shown.label,
            "settings": _settings(cell.grid),
            "rejected": shown.decided and cell is not shown.cells[0],
            "runs": [
                [_run(section, run, link) for run in cell.runs if run["configuration"]["seed"] == seed]
                for seed in seeds(section)
            ],
        }
        for index, shown in enumerate(section.shown)
        for cell in shown.cells
    ]


def _run(section: Section, run: Run, link: Link) -> dict[str, Any]:
    files = RunDirectory(run["directory"])
    present = {"error": files.error} if run["state"] == "failed" else {}
    present |= {"metrics": files.metrics, "config": files.configuration}
    links = {name: to for name, path in present.items() if path.exists() and (to := link(path))}
    train = run["configuration"]["train"]
    steps = sum(each for each in (train.get("warm_start_steps"), train.get("steps")) if isinstance(each, int))
    title = f"{run['name']}: {run['state']}, step {section.last_steps[run['name']]:,} of {steps:,}"
    reason = _reason(files.error) if run["state"] == "failed" else ""
    return {
        "name": run["name"],
        "state": run["state"],
        "symbol": SYMBOLS[run["state"]],
        "title": f"{title}; {reason}" if reason else title,
        "reason": reason,
        "links": links,
    }


def _reason(file: Path) -> str:
    """The last line of an ``error.txt``: that of a traceback which says what was wrong."""
    try:
        lines = file.read_text(errors="replace").split("\n")
    except OSError:
        return ""
    return next((line.strip()[:500] for line in reversed(lines) if line.strip()), "")


def failures(section: Section, link: Link) -> list[dict[str, Any]]:
    """The failed runs, each with what went wrong."""
    return [_run(section, run, link) for run in section.runs if run["state"] == "failed"]


def differences(section: Section) -> tuple[list[str], list[dict[str, Any]]]:
    """The keys in which cells differ, and a line for each cell, those rejected marked; no keys where none differ."""
    every = [
        (index, shown, cell, validation)
        for index, shown in enumerate(section.shown)
        for cell, validation in zip(shown.cells, shown.validation, strict=True)
    ]
    keys = list(dict.fromkeys(key for _, shown, cell, _ in every for key in [*shown.settings, *cell.grid]))
    lines = []
    for index, shown, cell, validation in every:
        settings = shown.settings | cell.grid
        finished = sum(run["state"] == "finished" for run in cell.runs)
        role = "not yet decided" if not shown.decided else "chosen" if cell is shown.cells[0] else "rejected"
        lines.append(
            {
                "index": index,
                "label": shown.label,
                "values": [_plain(settings[key]) if key in settings else "–" for key in keys],
                "finished": finished,
                "validation": "–" if validation is None else _written(f"val/{section.headline}", validation),
                "role": role if len(shown.cells) > 1 or not shown.decided else "the only one",
            }
        )
    return keys, lines


def counts(runs: Sequence[Run]) -> list[tuple[str, str, int]]:
    """State, symbol and number of runs, of those states that there are."""
    return [(state, symbol, n) for state, symbol in SYMBOLS.items() if (n := sum(run["state"] == state for run in runs))]
