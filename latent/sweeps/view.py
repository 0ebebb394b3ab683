"""One view of all runs of a sweep while they are under way: live on a terminal, elsewhere a line for each run that ends."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from latent.experiment import parts
from latent.experiment.run_directory import SYMBOLS, State
from latent.sweeps.board import ENDED, Board, Standing
from latent.words import numbered

STYLES: dict[State, str] = {"finished": "green", "running": "cyan", "failed": "bold red", "stopped": "yellow", "planned": "dim"}
SECONDS_BETWEEN_LOOKS = 1.0
MOST_LINES = 20


class View:
    """Shows a board as often as it is ticked."""

    def __init__(self, board: Board, workers: int, console: Console) -> None:
        self.board = board
        self.workers = workers
        self.console = console
        self.live = Live(console=console, auto_refresh=False, transient=True)
        self.looked = 0.0
        self.known = {standing.run.directory.path: standing.state for standing in board.standings}

    def __enter__(self) -> Callable[[], None]:
        if self.console.is_terminal:
            self.live.start()
        return self.tick

    def __exit__(self, *exception: Any) -> None:
        self.live.stop()
        self.board.look()  # what ended since the last look has its line too
        self._say_what_changed()

    def tick(self) -> None:
        """Look at the runs, and show them."""
        now = time.monotonic()
        if now - self.looked < SECONDS_BETWEEN_LOOKS:
            return
        self.board.look()
        self._say_what_changed()
        if self.live.is_started:
            self.live.update(self._drawn(), refresh=True)
        self.looked = time.monotonic()

    def _say_what_changed(self) -> None:
        """A line for each run that has ended; without a terminal also for each that has begun."""
        for standing in self.board.standings:
            path, state = standing.run.directory.path, standing.state
            if self.known[path] != state and (state in ENDED or (state == "running" and not self.live.is_started)):
                self.console.print(described(standing))
            self.known[path] = state

    def _drawn(self) -> Group:
        total = len(self.board.standings)
        steps = sum(standing.run.steps for standing in self.board.standings)
        done = sum(standing.run.steps if standing.state in ENDED else standing.step for standing in self.board.standings)
        head = Table.grid(padding=(0, 1))
        head.add_row(
            ProgressBar(steps, done, width=30),
            f"{numbered(total, 'run')}: {words_for(self.board)}",
            f"left {duration(self._left())}",
        )
        running = self.board.of("running")
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1))
        for column in ("running", "step", "validation", "calls", "steps/s", "left"):
            table.add_column(column, justify="left" if column == "running" else "right")
        for standing in running[:MOST_LINES]:
            table.add_row(escape(standing.run.directory.path.name), *_figures(standing))
        if len(running) > MOST_LINES:
            table.add_row(f"and {len(running) - MOST_LINES} more")
        return Group(head, table) if running else Group(head)

    def _left(self) -> float | None:
        return self.board.seconds_left(self.workers)


def _figures(standing: Standing) -> tuple[str, ...]:
    row, run = standing.row, standing.run
    speed = standing.step / standing.seconds if standing.seconds else 0.0
    left = (run.steps - standing.step) / speed if speed else None
    calls = f"{row['train/decoder_calls']:.2f}" if row else "–"
    return f"{standing.step:,}/{run.steps:,}", _headline(standing), calls, f"{speed:.0f}" if speed else "–", duration(left)


def _headline(standing: Standing) -> str:
    """The headline metric at the last evaluation; before the first one, in training."""
    vocabulary = parts.vocabulary(standing.run.configuration["task"])
    for split, after in (("val", ""), ("train", " in training")):
        judged = vocabulary.judged(split)
        if (value := standing.row.get(judged.key)) is not None:
            return judged.in_short(value) + after
    return "–"


def words_for(board: Board) -> str:
    """``12 finished, 2 running``."""
    counts = board.count()
    return ", ".join(f"{counts[state]} {state}" for state in STYLES if counts[state])


def described(standing: Standing) -> Text:
    """A run in one line: its state, its name, and its figures or where its error is."""
    line = Text.assemble(
        (f"{SYMBOLS[standing.state]} {standing.state:8}", STYLES[standing.state]), f" {standing.run.directory.path.name}"
    )
    if standing.state == "finished":
        line.append(f"  {_headline(standing)} on validation, {duration(standing.seconds)}", "dim")
    if standing.state == "failed":
        line.append(f"  {standing.run.directory.error}", "dim")
    return line


def duration(seconds: float | None) -> str:
    """``4 s``, ``12:05 min``, ``3:40 h``; a dash where it is not known."""
    if seconds is None:
        return "–"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    return f"{whole // 3600}:{whole // 60 % 60:02d} h"
