"""This process, one run after another: for a debugger and for profiles."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from latent.experiment.run_directory import RunError, RunInUse
from latent.experiment.runner import Interrupted
from latent.sweeps.execution import execute_directory
from latent.sweeps.launcher import Stopped, Tick
from latent.sweeps.waiting import Waiting

SECONDS_BETWEEN_LOOKS = 0.5


class DebugLauncher:
    """Runs one run after another in this process."""

    def __call__(self, directories: Sequence[Path], tick: Tick) -> dict[Path, str]:
        """See :class:`~latent.sweeps.launcher.Launcher`."""
        waiting = Waiting(directories)
        while waiting:
            tick()
            taken = waiting.take(1)
            if not taken:  # others work on those that are left
                time.sleep(SECONDS_BETWEEN_LOOKS)
            for directory in taken:
                try:
                    execute_directory(directory)
                except RunInUse:
                    waiting.set_aside(directory)
                except RunError:
                    pass  # its error.txt says why
                except (Interrupted, KeyboardInterrupt):
                    raise Stopped from None
        tick()
        return {}
