"""This process, one run after another: for a debugger and for profiles."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from latent.experiment.run_directory import RunError, RunInUse
from latent.experiment.runner import Interrupted
from latent.sweeps.execution import execute
from latent.sweeps.launcher import Stopped, Tick


class DebugLauncher:
    """Runs one run after another in this process."""

    def __call__(self, directories: Sequence[Path], tick: Tick) -> dict[Path, str]:
        """See :class:`~latent.sweeps.launcher.Launcher`."""
        in_use = {}
        for directory in directories:
            tick()
            try:
                execute(directory)
            except RunInUse as error:
                in_use[directory] = str(error)
            except RunError:
                pass  # its error.txt says why
            except (Interrupted, KeyboardInterrupt):
                raise Stopped from None
        tick()
        return in_use
