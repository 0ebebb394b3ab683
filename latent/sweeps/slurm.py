"""Slurm job arrays, submitted by submitit: a job for each run, which goes on from its checkpoint when its time is up.

Ahead of a time limit or a preemption submitit has a signal sent, upon which the run writes a checkpoint and the job is queued
again. Jobs do not depend on the command that submitted them: it only watches, and may be stopped and given again.
"""

from __future__ import annotations

import os
import shutil
import time
import warnings
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape

from latent.experiment.run_directory import RunDirectory
from latent.files import write_json
from latent.sweeps.launcher import LauncherError, Need, Stopped, Tick
from latent.sweeps.slurm_job import Queue, Task, how_it_ended, job_of
from latent.sweeps.waiting import Waiting
from latent.terminal import errors

CLUSTERS = ("slurm", "local", "debug")
MOST_IN_ARRAY = 1000
"""Slurm's MaxArraySize is 1001 where nobody has raised it."""
MOST_TIMEOUTS = 20
"""How often a job may reach its time limit, where sweep.slurm has no slurm_max_num_timeout."""
MINUTES = 60
"""Time limit of a job, where sweep.slurm has no timeout_min."""
SECONDS_BETWEEN_LOOKS = 0.5


class SlurmLauncher:
    """Submits runs as job arrays, one for each experiment and size of job, and watches them.

    Args:
        needs: what each run is given.
        workers: runs at a time; without it, as many as the cluster has room for.
        parameters: of the jobs, in submitit's names, and ``cluster``: ``local`` for processes of this machine in the place of
            jobs, ``debug`` for this process.

    Raises:
        LauncherError: if a parameter is wrong, or Slurm is not there.
    """

    def __init__(self, needs: Mapping[Path, Need], workers: int | None, parameters: Mapping[str, Any]) -> None:
        self.needs = needs
        self.workers = workers
        self.parameters = dict(parameters)
        self.cluster = self.parameters.pop("cluster", "slurm")
        self.timeouts = {key: self.parameters.pop(key) for key in list(self.parameters) if key.endswith("_max_num_timeout")}
        self._check()
        self.room = {"slurm": float("inf"), "local": workers or len(os.sched_getaffinity(0)), "debug": 1}[self.cluster]
        self.queue = Queue()

    def __call__(self, directories: Sequence[Path], tick: Tick) -> dict[Path, str]:
        """See :class:`~latent.sweeps.launcher.Launcher`."""
        crashes: dict[Path, str] = {}
        jobs = self._attached(directories) if self.cluster == "slurm" else {}
        waiting = Waiting([each for each in directories if each not in jobs])
        try:
            while waiting or jobs:
                jobs |= self._submit(waiting.take(self.room - len(jobs)))
                for directory in [each for each, job in jobs.items() if self._is_over(job)]:
                    job = jobs.pop(directory)
                    if RunDirectory(directory).state() in ("planned", "stopped"):
                        crashes[directory] = how_it_ended(job)
                tick()
                time.sleep(SECONDS_BETWEEN_LOOKS + len(jobs) / 200)  # looking at many jobs costs the file system
        except KeyboardInterrupt:
            if jobs and self.cluster == "slurm":
                arrays = " ".join(sorted({job.job_id.split("_")[0] for job in jobs.values()}))
                errors.print(f"the jobs go on; [bold]scancel {escape(arrays)}[/] ends them")
            raise Stopped from None
        return crashes

    def _check(self) -> None:
        """Find what is wrong before anything is submitted."""
        if self.cluster not in CLUSTERS:
            raise LauncherError(f"sweep.slurm: cluster must be one of {', '.join(CLUSTERS)}, got {self.cluster!r}")
        for key in ("nodes", "tasks_per_node", "slurm_nodes", "slurm_ntasks_per_node"):
            if self.parameters.get(key, 1) != 1:
                raise LauncherError(f"sweep.slurm: {key} must be 1, for a run is one process, got {self.parameters[key]}")
        for gpus in {need.gpus for need in self.needs.values()}:
            if gpus != int(gpus):
                raise LauncherError(f"sweep.gpus must be a whole number with Slurm, got {gpus}")
        if self.cluster == "slurm" and shutil.which("sbatch") is None:
            raise LauncherError("--launcher slurm needs the command sbatch, which is not on the PATH: is this a login node?")
        for experiment, need in {(path.parents[1], need) for path, need in self.needs.items()}:
            self._executor(experiment, need, 1)

    def _executor(self, experiment: Path, need: Need, at_a_time: int) -> Any:
        """What submits jobs of one size; their logs are in ``<out>/<experiment>/.slurm``.

        Raises:
            LauncherError: if submitit refuses a parameter.
        """
        import submitit

        parameters: dict[str, Any] = {
            "name": f"latent-{experiment.name}",
            "timeout_min": MINUTES,
            "cpus_per_task": need.threads,
            "gpus_per_node": int(need.gpus) or None,
            "slurm_array_parallelism": at_a_time,
            **self.parameters,
        }
        if self.workers is not None:
            parameters["slurm_array_parallelism"] = at_a_time
        timeouts = {f"{self.cluster}_max_num_timeout": MOST_TIMEOUTS} if self.cluster != "debug" else {}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # submitit warns of names that it takes for others
                executor = submitit.AutoExecutor(experiment / ".slurm", self.cluster, **(timeouts | self.timeouts))
                executor.update_parameters(**parameters)
        except (NameError, ValueError, TypeError, AssertionError, RuntimeError, OSError, UserWarning) as error:
            raise LauncherError(f"sweep.slurm: {' '.join(str(error).split())}") from error
        return executor

    def _submit(self, directories: Iterable[Path]) -> dict[Path, Any]:
        """Submit runs, an array for each experiment and size of job, and note each job in its run's directory."""
        groups: dict[tuple[Path, Need], list[Path]] = defaultdict(list)
        for directory in directories:
            groups[directory.parents[1], self.needs[directory]].append(directory)
        arrays = [
            (*key, members[first : first + MOST_IN_ARRAY])
            for key, members in groups.items()
            for first in range(0, len(members), MOST_IN_ARRAY)
        ]
        submitted: dict[Path, Any] = {}
        for experiment, need, members in arrays:
            at_a_time = max(1, self.workers // len(arrays)) if self.workers else len(members)
            try:
                jobs = self._executor(experiment, need, at_a_time).map_array(Task(), members)
            except (RuntimeError, OSError) as error:
                raise LauncherError(f"the jobs are refused: {' '.join(str(error).split())}") from error
            for directory, job in zip(members, jobs, strict=True):
                submitted[directory] = job
                if self.cluster == "slurm":
                    write_json(directory / "job.json", {"job": job.job_id})
                elif self.cluster == "debug":
                    job.exception()  # which is what runs it
        return submitted

    def _attached(self, directories: Iterable[Path]) -> dict[Path, Any]:
        """Jobs that an earlier command submitted and that are still queued, or running."""
        import submitit

        noted = {each: job for each in directories if (job := job_of(each)) and RunDirectory(each).state() != "failed"}
        if not noted:
            return {}
        queued = self.queue.look()
        if queued is None:
            raise LauncherError("squeue does not answer, so that nobody knows which runs have jobs already")
        return {each: submitit.SlurmJob(each.parents[1] / ".slurm", job) for each, job in noted.items() if job in queued}

    def _is_over(self, job: Any) -> bool:
        if self.cluster == "slurm":
            return job.paths.result_pickle.exists() or not self.queue.has(job.job_id)
        return self.cluster == "debug" or bool(job.done())
