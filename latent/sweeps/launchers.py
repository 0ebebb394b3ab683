"""Launchers by name."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path

from latent.sweeps.debug import DebugLauncher
from latent.sweeps.launcher import Launcher, LauncherError, Need
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
        return LocalLauncher(at_a_time(needed, runs))
    if needed.launcher == "ray":
        _check_installed("ray", "ray")
        from latent.sweeps.ray_cluster import RayLauncher

        return RayLauncher(_needs(runs, needed.gpus), needed.workers, needed.address)
    if needed.launcher == "slurm":
        _check_installed("submitit", "slurm")
        from latent.sweeps.slurm import SlurmLauncher

        return SlurmLauncher(_needs(runs, needed.gpus), needed.workers, needed.slurm)
    raise LauncherError(f"no launcher {needed.launcher}")


def at_a_time(needed: Resources, runs: Sequence[PlannedRun]) -> int:
    """How many runs are run at a time: as many as asked for, else as there is room for; that of a cluster is not known here."""
    if needed.launcher == "debug":
        return 1
    return needed.workers or (_room(runs, needed.gpus) if needed.launcher == "local" else max(1, len(runs)))


def _room(runs: Sequence[PlannedRun], gpus: float | None) -> int:
    """How many of these runs this machine has room for: by the threads of each, and by its share ``gpus`` of their devices."""
    needs = _needs(runs, gpus).values()
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    room = available / max((need.threads for need in needs), default=1)
    devices = {run.configuration["device"].replace("cuda:0", "cuda") for run in runs} - {"cpu"}
    share = max((need.gpus for need in needs), default=0.0)
    return max(1, int(min(room, len(devices) / share if devices and share else room)))


def _needs(runs: Sequence[PlannedRun], gpus: float | None) -> dict[Path, Need]:
    """What each run is to be given: its threads, and ``gpus``, or one where it runs on CUDA."""
    return {
        run.directory.path: Need(
            run.configuration["threads"],
            (1.0 if run.configuration["device"].startswith("cuda") else 0.0) if gpus is None else gpus,
        )
        for run in runs
    }


def _check_installed(module: str, extra: str) -> None:
    if importlib.util.find_spec(module) is None:
        message = f"--launcher {extra} needs {module}, which is not installed: pip install 'discrete-latent[{extra}]'"
        raise LauncherError(message)
