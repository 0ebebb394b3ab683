"""A run's directory: its name, its files, and what state it is in."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock
import yaml
from PIL import Image
from torch import Tensor

from latent.files import write_atomically, write_json, write_text


class RunError(Exception):
    """A run cannot start, go on or end; the message says why and what to do."""


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

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Create the directory and hold its lock, which a kill frees.

        Raises:
            RunError: if the directory cannot be written, or another process runs there.
        """
        lock = filelock.FileLock(self.path / ".lock")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock.acquire(blocking=False)
        except filelock.Timeout as error:
            raise RunError(f"{self.path} is in use: another process is running this experiment") from error
        except OSError as error:
            raise RunError(f"cannot write to {self.path}: {error.strerror or error}") from error
        try:
            yield
        finally:
            lock.release()

    def summary(self) -> dict[str, Any] | None:
        """The summary of a finished run; None of an unfinished one.

        Raises:
            RunError: if the summary is damaged.
        """
        try:
            summary: dict[str, Any] = json.loads(self.done.read_text())
            missing = {"run", "task", "estimator", "seed", "step"} - set(summary)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise RunError(f"cannot read {self.done}: {error.strerror}") from error
        except (ValueError, TypeError) as error:
            raise RunError(f"{self.done} is damaged: {error}; --force runs the experiment anew") from error
        if missing or not isinstance(summary, dict):
            raise RunError(f"{self.done} is damaged: it is not a run's summary; --force runs the experiment anew")
        return summary

    def begin(self, configuration: dict[str, Any]) -> None:
        """Write down the configuration, and the environment beside those of the processes before; forget their errors."""
        write_text(self.path / "config.yaml", yaml.safe_dump(configuration, sort_keys=False))
        try:
            before = json.loads(self.environments.read_text())
        except (OSError, ValueError):
            before = []
        present = environment()
        if present not in before:
            write_json(self.environments, [*before, present])
        for left in (self.error, *self.path.glob(".*.partial"), *self.pictures.glob(".*.partial")):  # by a kill
            left.unlink(missing_ok=True)

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

    def rewind(self, size: int) -> list[dict[str, Any]]:
        """Cut ``metrics.jsonl`` to ``size`` bytes, those a checkpoint vouches for, and return its rows.

        Raises:
            RunError: if the file is shorter than that or damaged.
        """
        self.metrics.touch()
        with self.metrics.open("r+b") as stream:
            if self.metrics.stat().st_size > size:
                stream.truncate(size)
            try:
                rows: list[dict[str, Any]] = [json.loads(line) for line in stream]
            except ValueError as error:
                raise RunError(f"{self.metrics} is damaged: {error}; --force runs the experiment anew") from error
        if self.metrics.stat().st_size < size:
            raise RunError(f"{self.metrics} lacks rows that the checkpoint counts on; --force runs the experiment anew")
        return rows

    def finish(self, summary: dict[str, Any]) -> None:
        """Write the summary, which makes the run a finished one."""
        write_json(self.done, summary)


def environment() -> dict[str, Any]:
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
