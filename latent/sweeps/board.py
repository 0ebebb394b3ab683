"""How the runs of a sweep stand, read from their directories: states, last rows of metrics, and the time that is left."""

from __future__ import annotations

import json
import statistics
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from latent.experiment.run_directory import RunError, State
from latent.sweeps.plan import PlannedRun
from latent.words import is_number

TAIL = 1 << 16
"""Bytes at the end of a metrics.jsonl in which its last row lies."""
ENDED: tuple[State, ...] = ("finished", "failed")


@dataclass
class Standing:
    """How one run stands; ``row`` is its last row of metrics with its last evaluation, or its summary, or empty."""

    run: PlannedRun
    state: State = "planned"
    row: dict[str, Any] = field(default_factory=dict)

    @property
    def step(self) -> int:
        """Steps done, as far as rows say."""
        return int(self.row.get("step", 0))

    @property
    def seconds(self) -> float:
        """Seconds of training that its rows account for."""
        seconds = self.row.get("time/seconds", 0.0)
        return float(seconds) if is_number(seconds) else 0.0


class Board:
    """The standings of the runs of a sweep, in its order."""

    def __init__(self, runs: Sequence[PlannedRun]) -> None:
        self.standings = [Standing(run) for run in runs]
        self.look(everything=True)

    def look(self, everything: bool = False) -> None:
        """Read again what may have changed; runs that have ended do not, unless somebody runs them anew."""
        for standing in self.standings:
            if everything or standing.state not in ENDED:
                _read(standing)

    def count(self) -> Counter[State]:
        """Runs by state."""
        return Counter(standing.state for standing in self.standings)

    def of(self, *states: State) -> list[Standing]:
        """Runs in some states."""
        return [standing for standing in self.standings if standing.state in states]

    def seconds_left(self, workers: int, again: Collection[Standing] = ()) -> float | None:
        """Estimated time until all runs have ended, ``workers`` at a time; None while nothing is known.

        Runs that have ended are counted as steps to do where they are to be run ``again``.

        A step is taken to last as long as the mean of the cell's runs, else of the estimator's, else of all.
        """
        rates: dict[str, list[float]] = defaultdict(list)
        for standing in self.standings:
            if standing.step and standing.seconds:
                for key in _kin(standing.run):
                    rates[key].append(standing.seconds / standing.step)
        if not rates:
            return None
        left, ended = [], {id(standing) for standing in again}
        for standing in self.standings:
            anew = id(standing) in ended
            if anew or standing.state not in ENDED:
                rate = next(statistics.fmean(rates[key]) for key in _kin(standing.run) if key in rates)
                left.append(rate * max(standing.run.steps - (0 if anew else standing.step), 0))
        return max(sum(left) / workers, max(left)) if left else 0.0


def _kin(run: PlannedRun) -> tuple[str, str, str]:
    return f"cell {run.cell}", f"estimator {run.configuration['estimator']['name']}", "all"


def _read(standing: Standing) -> None:
    directory = standing.run.directory
    try:
        standing.state = directory.state()
        standing.row = directory.summary() or _last_row(standing.run)
    except RunError:  # a damaged summary: the run itself will say so
        standing.state, standing.row = "failed", {}


def _last_row(run: PlannedRun) -> dict[str, Any]:
    """The last whole row of metrics that shows progress, which rows of probes do not, and the last evaluation."""
    try:
        with run.directory.metrics.open("rb") as stream:
            stream.seek(0, 2)
            stream.seek(max(0, stream.tell() - TAIL))
            lines = stream.read().split(b"\n")[:-1]
    except OSError:
        return {}
    last: dict[str, Any] = {}
    for line in reversed(lines):
        try:
            row = json.loads(line)
            values = {key: row[key] for key in row if is_number(row[key])}
        except (ValueError, TypeError, KeyError):  # the first one is cut off
            continue
        if "train/decoder_calls" in values and "step" in values:
            last = last or values
            if evaluated := {key: value for key, value in values.items() if key.startswith("val/")}:
                return evaluated | last
    return last
