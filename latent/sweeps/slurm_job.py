"""One job of Slurm: what it does, whether it is still queued, and how it ended."""

from __future__ import annotations

import contextlib
import json
import logging
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

from latent.experiment.run_directory import RunInUse
from latent.sweeps.execution import execute_directory, log_warnings

SECONDS_BETWEEN_LOOKS = 20.0
SECONDS_TO_APPEAR = 30.0
"""What the files of a job that has left the queue may take to be seen here, through a file system with a cache."""
SECONDS_FOR_LOCK = 600.0
"""For how long a job waits for a run that is in use, as by its predecessor on a machine that has died."""

log = logging.getLogger(__name__)


class Task:
    """What a job does: one run, in a thread, so that the main thread can take submitit's signal at any moment."""

    def __call__(self, directory: Path) -> None:
        """Run a run to its end.

        Raises:
            RunError: if the run cannot start or go on; ``error.txt`` in its directory then says why.
        """
        log_warnings()
        self.stop = threading.Event()
        self.raised: BaseException | None = None
        self.thread = threading.Thread(target=self._run, args=(directory,))
        self.thread.start()
        try:
            while self.thread.is_alive():
                self.thread.join(1.0)
        finally:
            self.stop.set()
            self.thread.join()
        if self.raised is not None:
            raise self.raised

    def _run(self, directory: Path) -> None:
        deadline = time.monotonic() + SECONDS_FOR_LOCK
        while True:
            try:
                execute_directory(directory, stop=self.stop)
            except RunInUse as error:
                if time.monotonic() < deadline and not self.stop.wait(5.0):
                    continue
                self.raised = error
            except BaseException as error:  # the main thread raises it
                self.raised = error
            return

    def checkpoint(self, directory: Path) -> Any:
        """Let the run write a checkpoint after the step that it is in; submitit calls this in a handler of its signal.

        Returns:
            What the job does when it is started again.
        """
        from submitit.helpers import DelayedSubmission

        self.stop.set()
        self.thread.join()
        return DelayedSubmission(Task(), directory)

    __submitit_checkpoint__ = checkpoint
    """The same under its newer name; submitit looks for both."""


class Queue:
    """The jobs of this user that wait or run, for all of which Slurm is asked at once, and seldom."""

    def __init__(self) -> None:
        self.seen: dict[str, float] = {}
        self.looked = self.answered = float("-inf")

    def has(self, job: str) -> bool:
        """Whether a job is there, or has been until a moment ago, or Slurm does not say."""
        now = time.monotonic()
        self.seen.setdefault(job, now)
        if now - self.looked > SECONDS_BETWEEN_LOOKS:
            self.looked = now
            if (queued := self.look()) is not None:
                self.answered = now
                self.seen.update(dict.fromkeys(queued, now))
        return self.answered - self.seen[job] <= SECONDS_TO_APPEAR

    def look(self) -> set[str] | None:
        """Ask Slurm, now; None if it does not answer."""
        command = ["squeue", "--me", "--array", "--noheader", "--format=%F %K"]
        try:
            said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
        except (OSError, subprocess.SubprocessError) as error:
            log.warning("squeue does not answer: %s", getattr(error, "stderr", None) or error)
            return None
        pairs = (line.split() for line in said.splitlines() if line.strip())
        return {job if index == "N/A" else f"{job}_{index}" for job, index in pairs}


def job_of(directory: Path) -> str | None:
    """The job that was submitted for a run."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return str(json.loads((directory / "job.json").read_text())["job"])
    return None


def how_it_ended(job: Any) -> str:
    """What the last line of a job's log says: that memory ran out, a machine died, or there were too many time-outs."""
    lines: list[str] = []
    with contextlib.suppress(OSError):
        lines = job.paths.stderr.read_text(errors="replace").strip().splitlines()
    reason = f": {lines[-1]}" if lines else ""
    return f"job {job.job_id} ended before the run did{reason} ({job.paths.stderr}); the same command submits it again"
