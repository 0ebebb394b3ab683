"""Launchers by name."""

from __future__ import annotations

import os
from collections.abc import Sequence

from latent.sweeps.debug import DebugLauncher
from latent.sweeps.launcher import Launcher, LauncherError
from latent.sweeps.local import LocalLauncher
from latent.sweeps.plan import PlannedRun, Resources


def launcher_for(needed: Resources, runs: Sequence[PlannedRun]) -> Launcher:
    """The launcher that a sweep asks for.

    Raises:
        LauncherError: if it cannot be used as asked for, or its library is not installed.
    """
    if needed.address is not None and needed.launcher != "ray":
        raise LauncherError(f"--address is that of a Ray cluster; with --launcher {needed.launcher} there is none")
    if needed.launcher == "debug":
        return DebugLauncher()
    if needed.launcher == "local":
        return LocalLauncher(needed.workers or processors(runs))
    raise LauncherError(f"no launcher {needed.launcher}")


def processors(runs: Sequence[PlannedRun]) -> int:
    """How many of these runs this machine has processors for, by the threads of each."""
    threads = max((run.configuration["threads"] for run in runs), default=1)
    return max(1, len(os.sched_getaffinity(0)) // threads)
