"""Processes of this machine, one for each run: the crash of one touches no other.

They are forked from a server that has torch loaded, which takes about ten milliseconds where a fresh interpreter takes
seconds. Each writes what it prints to ``output.txt`` in its run's directory, and stops, with a checkpoint, when the process
that started it is gone.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from latent.experiment.run_directory import RunError, RunInUse
from latent.experiment.runner import Interrupted
from latent.sweeps.execution import execute_directory, log_warnings, print_to
from latent.sweeps.launcher import Stopped, Tick
from latent.sweeps.waiting import Waiting
from latent.terminal import FAILED, INTERRUPTED, errors
from latent.words import numbered

IN_USE = 75
"""Exit code of a process that found its run in use (EX_TEMPFAIL)."""
SECONDS_BETWEEN_LOOKS = 0.5
SECONDS_TO_STOP = 60.0
"""What a run has for its last step and its checkpoint; after that it is killed, and goes on from the checkpoint before."""


class LocalLauncher:
    """Runs at most ``workers`` runs at a time in processes of this machine.

    A run that another process works on is left to that process, and looked at again every few seconds.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.context = multiprocessing.get_context("forkserver")
        # the main module is among them: every process imports it, as the server then has already
        self.context.set_forkserver_preload(["latent.commands.main", "latent.sweeps.local"])

    def __call__(self, directories: Sequence[Path], tick: Tick) -> dict[Path, str]:
        """See :class:`~latent.sweeps.launcher.Launcher`."""
        waiting = Waiting(directories)
        running: dict[Path, Any] = {}
        crashes: dict[Path, str] = {}
        try:
            while waiting or running:
                for directory in waiting.take(self.workers - len(running)):
                    running[directory] = self._start(directory)
                wait([process.sentinel for process in running.values()], SECONDS_BETWEEN_LOOKS)
                for directory in [each for each, process in running.items() if process.exitcode is not None]:
                    code = running.pop(directory).exitcode
                    if code == IN_USE:
                        waiting.set_aside(directory)
                    elif code not in (0, FAILED):
                        crashes[directory] = _how_it_ended(code, directory)
                tick()
        except KeyboardInterrupt:
            raise Stopped from None
        finally:
            _stop(running.values())
        return crashes

    def _start(self, directory: Path) -> Any:
        process = self.context.Process(target=_work, args=(directory,), name=directory.name)
        process.start()
        return process


def _stop(processes: Any) -> None:
    """Ask processes to stop after their step, and wait for their checkpoints."""
    alive = [process for process in processes if process.exitcode is None]
    if alive:
        errors.print(f"stopping {numbered(len(alive), 'run')} after a checkpoint; Ctrl-C again kills at once")
    try:
        for process in alive:
            process.terminate()
        deadline = time.monotonic() + SECONDS_TO_STOP
        for process in alive:
            process.join(max(0.0, deadline - time.monotonic()))
    except KeyboardInterrupt:
        pass
    for process in alive:
        if process.exitcode is None:
            process.kill()
            process.join()


def _how_it_ended(code: int, directory: Path) -> str:
    if code == INTERRUPTED:
        return "it was stopped by a signal"
    output = directory / "output.txt"
    if code >= 0:
        return f"its process ended with exit code {code}; what it printed is in {output}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    memory = "; if it was not you, memory may have run out" if name == "SIGKILL" else ""
    return f"its process was ended by {name}{memory}; what it printed is in {output}"


def _work(directory: Path) -> None:
    """The process of one run."""
    os.setsid()  # Ctrl-C in the terminal is for the sweep, which then asks every run to stop
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    print_to(directory / "output.txt")
    log_warnings()
    try:
        execute_directory(directory)
    except RunInUse:
        sys.exit(IN_USE)
    except RunError:
        sys.exit(FAILED)
    except (Interrupted, KeyboardInterrupt):
        sys.exit(INTERRUPTED)


def _stop_with_parent() -> None:
    """Stop, with a checkpoint, when the process of the sweep has gone: nobody would start what comes after this run."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
