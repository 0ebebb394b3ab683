"""Runs that are to be started, in their order, and those that wait for somebody else to let them go."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from latent.experiment.run_directory import RunDirectory

SECONDS_ASIDE = 2.0
"""For how long a run that is in use is not looked at again."""


class Waiting:
    """Runs to start. One that another process works on is set aside, and is looked at again until that lets it go.

    One that another process has brought to its end meanwhile, well or badly, is not started.
    """

    def __init__(self, directories: Sequence[Path]) -> None:
        self._ready = deque(directories)
        self._aside: dict[Path, float] = {}
        self._errors = {directory: _error_time(directory) for directory in directories}

    def __bool__(self) -> bool:
        return bool(self._ready or self._aside)

    def take(self, most: float) -> list[Path]:
        """Up to ``most`` runs that nobody works on."""
        now = time.monotonic()
        for directory in [each for each, until in self._aside.items() if until <= now]:
            del self._aside[directory]
            self._ready.append(directory)
        taken: list[Path] = []
        while self._ready and len(taken) < most:
            directory = self._ready.popleft()
            state = RunDirectory(directory).state()
            if state == "running":
                self.set_aside(directory)
            elif state in ("planned", "stopped") or (state == "failed" and _error_time(directory) == self._errors[directory]):
                taken.append(directory)
        return taken

    def set_aside(self, directory: Path) -> None:
        """A run is in use elsewhere."""
        self._aside[directory] = time.monotonic() + SECONDS_ASIDE

    def put_back(self, directory: Path) -> None:
        """A run is to be started again."""
        self._ready.append(directory)


def _error_time(directory: Path) -> int | None:
    try:
        return RunDirectory(directory).error.stat().st_mtime_ns
    except OSError:
        return None
