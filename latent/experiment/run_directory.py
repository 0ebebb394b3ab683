"""A run's directory: its name, its files, and what state it is in."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import filelock
import yaml
from PIL import Image
from torch import Tensor

from latent.experiment.yaml_source import Block
from latent.files import write_atomically, write_json, write_text

State = Literal["finished", "running", "failed", "stopped", "planned"]
"""``stopped``: begun, and to go on from its checkpoint; ``planned``: not begun."""

Row = dict[str, float]
"""Metrics by name, with the ``step`` that they were measured after."""

Summary = Block
"""The last row of metrics, with what names the run."""

SYMBOLS: dict[State, str] = {"finished": "✓", "running": "▶", "failed": "✗", "stopped": "❚", "planned": "·"}
"""One for each state, wherever states are shown."""

SUMMARY_TYPES: dict[str, type] = {"run": str, "task": str, "estimator": str, "seed": int, "step": int}
"""What every summary has."""

ANEW = "latent run --force or latent sweep --retry-failed runs it anew"
"""What helps where files of a run are damaged."""

PROBE_SECONDS = 0.5
"""For how long a lock is asked for: whoever looks whether a run is being run holds its lock for an instant."""


class RunError(Exception):
    """A run cannot start, go on or end; the message says why and what to do."""


class RunInUse(RunError):
    """Another process works on the run."""


class Damaged(RunError):
    """Files of a run are not what it wrote, and it must be run anew."""


class RunDirectory:
    """``<out>/<experiment>/runs/<estimator>-s<seed>-<hash>``.

    ``metrics.jsonl`` is the truth about a run: one row of metrics a line, appended. Every other file is written atomically.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoint = path / "checkpoint.pt"
        self.metrics = path / "metrics.jsonl"
        self.done = path / "done.json"
        self.error = path / "error.txt"
        self.environments = path / "env.json"
        self.pictures = path / "pictures"
        self.configuration = path / "config.yaml"
        self.plan = path / "plan.json"
        self.lock = path / ".lock"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Create the directory and hold its lock, which a kill frees.

        Raises:
            RunError: if the directory cannot be written, or another process runs there.
        """
        lock = filelock.FileLock(self.lock)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=PROBE_SECONDS, poll_interval=0.02)
        except filelock.Timeout as error:
            raise RunInUse(f"{self.path} is in use: another process is running this experiment") from error
        except OSError as error:
            raise RunError(f"cannot write to {self.path}: {error.strerror or error}") from error
        try:
            yield
        finally:
            lock.release()

    def is_locked(self) -> bool:
        """Whether a process works on the run."""
        try:
            with self.lock.open("rb") as stream:
                fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:  # no such file, or a file system without locks
            return False
        return False

    def state(self) -> State:
        """What has become of the run; one whose summary is damaged has failed."""
        try:
            if self.summary() is not None:
                return "finished"
        except RunError:
            return "failed"
        if self.is_locked():
            return "running"
        if self.error.exists():
            return "failed"
        return "stopped" if self.metrics.exists() else "planned"

    def summary(self) -> Summary | None:
        """The summary of a finished run; None of an unfinished one.

        Raises:
            Damaged: if the summary is.
            RunError: if it cannot be read.
        """
        try:
            summary: Summary = json.loads(self.done.read_text())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise RunError(f"cannot read {self.done}: {error.strerror}") from error
        except ValueError as error:
            raise self.damaged(self.done, error) from error
        if not isinstance(summary, dict) or not all(isinstance(summary.get(key), kind) for key, kind in SUMMARY_TYPES.items()):
            raise self.damaged(self.done, "it is not a run's summary")
        return summary

    def rows(self, size: int = 0) -> list[Row]:
        """The rows of ``metrics.jsonl``; a line that a kill has cut off, at the end, is left out.

        Args:
            size: bytes that a checkpoint counts on.

        Raises:
            Damaged: if the file is, or is shorter than that.
            RunError: if it cannot be read.
        """
        try:
            content = self.metrics.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            content = b""
        except OSError as error:
            raise RunError(f"cannot read {self.metrics}: {error.strerror}") from error
        if len(content) < size:
            raise self.damaged(self.metrics, "it lacks rows that the checkpoint counts on")
        try:
            rows: list[Row] = [json.loads(line) for line in content.decode().split("\n")[:-1]]
        except ValueError as error:
            raise self.damaged(self.metrics, error) from error
        for number, row in enumerate(rows, 1):
            if not isinstance(row, dict) or not isinstance(row.get("step"), int):
                raise self.damaged(self.metrics, f"line {number} is no row of metrics")
        return rows

    def damaged(self, file: Path, what: object) -> Damaged:
        """An error that says which file is damaged, and how the run is run anew."""
        return Damaged(f"{file} is damaged: {what}; {ANEW}")

    def reason(self) -> str:
        """Why the run has failed, in a line."""
        try:
            self.summary()
        except RunError as error:
            return str(error)
        said = self.last_words()
        return f"{said} ({self.error})" if said else f"see {self.path}"

    def last_words(self) -> str:
        """The last line of ``error.txt``: that of a traceback which says what was wrong; empty without one."""
        try:
            lines = self.error.read_text(errors="replace").split("\n")
        except OSError:
            return ""
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def begin(self, configuration: Block) -> None:
        """Write down the configuration, and the environment beside those of the processes before; forget their errors."""
        self.write_configuration(configuration)
        try:
            before = json.loads(self.environments.read_text())
        except (OSError, ValueError):
            before = []
        present = environment()
        if present not in before:
            write_json(self.environments, [*before, present])
        for left in (self.error, *self.path.glob(".*.partial"), *self.pictures.glob(".*.partial")):  # by a kill
            left.unlink(missing_ok=True)

    def write_plan(self, grid: Block) -> None:
        """Write down what the grid of a sweep sets in the run."""
        write_json(self.plan, {"grid": grid})

    def grid(self) -> Block:
        """What a sweep's grid sets in this run: dotted keys with their values; empty without a sweep.

        Raises:
            Damaged: if the plan is.
            RunError: if it cannot be read.
        """
        try:
            grid: Block = json.loads(self.plan.read_text())["grid"]
            return dict(grid)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except OSError as error:
            raise RunError(f"cannot read {self.plan}: {error.strerror}") from error
        except (ValueError, TypeError, KeyError) as error:
            raise Damaged(f"{self.plan} is damaged: {error}; the sweep that made it writes it anew") from error

    def write_configuration(self, configuration: Block) -> None:
        """Write down the complete configuration; that is all that a run starts from."""
        text = yaml.safe_dump(configuration, sort_keys=False)
        with contextlib.suppress(OSError):
            if self.configuration.read_bytes() == text.encode():
                return
        write_text(self.configuration, text)

    def clear(self) -> None:
        """Forget what an earlier run left here."""
        for file in (self.done, self.checkpoint, self.metrics, self.error, self.environments):
            file.unlink(missing_ok=True)
        for picture in self.pictures.glob("*.png"):
            picture.unlink()

    def picture(self, name: str, step: int, pixels: Tensor) -> Path:
        """Write a picture ``[H, W]`` uint8 as ``pictures/<name>-<step>.png``."""
        self.pictures.mkdir(exist_ok=True)
        path = self.pictures / f"{name}-{step:07d}.png"
        write_atomically(path, lambda stream: Image.fromarray(pixels.numpy()).save(stream, "PNG"))
        return path

    def pictures_by_step(self) -> dict[int, dict[str, Path]]:
        """The files of the pictures, by step and name."""
        found: dict[int, dict[str, Path]] = {}
        for path in sorted(self.pictures.glob("*-*.png")):
            name, _, step = path.stem.rpartition("-")
            if step.isdecimal():
                found.setdefault(int(step), {})[name] = path
        return found

    def rewind(self, size: int) -> list[Row]:
        """Cut ``metrics.jsonl`` to ``size`` bytes, those a checkpoint vouches for, and return its rows.

        Raises:
            Damaged: if the file is, or is shorter than that.
        """
        self.metrics.touch()
        if self.metrics.stat().st_size > size:
            os.truncate(self.metrics, size)
        return self.rows(size)

    def finish(self, summary: Summary) -> None:
        """Write the summary, which makes the run a finished one."""
        write_json(self.done, summary)


def environment() -> Block:
    """What a run's numbers may depend on besides its configuration."""
    packages = ("discrete-latent", "torch", "entmax", "numpy", "lightning-fabric", "pydantic", "wandb")
    versions = {}
    for package in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": versions,
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }
