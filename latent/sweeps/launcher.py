"""What launchers have in common: from run directories to finished runs, somewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

Tick = Callable[[], None]
"""Called about twice a second while runs are under way; what there is to see is read from their directories."""


class LauncherError(Exception):
    """Runs cannot be launched as asked for; the message says why and what would help."""


class Stopped(Exception):
    """The sweep was asked to stop, and has stopped; the same command goes on."""


class Need(NamedTuple):
    """What one run is given of a cluster: processors, and graphics processors, of which it may need a fraction."""

    threads: int
    gpus: float


class Launcher(Protocol):
    """Runs every run of a sweep by :func:`~latent.sweeps.execution.execute_directory`; their directories say how they ended."""

    def __call__(self, directories: Sequence[Path], tick: Tick) -> dict[Path, str]:
        """Run all to their ends.

        Returns:
            For runs that came to no end of their own, such as by a crash of their process, what happened.

        Raises:
            LauncherError: if nothing can be launched.
            Stopped: after Ctrl-C.
        """
