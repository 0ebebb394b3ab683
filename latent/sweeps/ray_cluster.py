"""Tasks of a Ray cluster, one for each run: on machines that share a file system, some of which may die.

A task has the run's directory and nothing else, and returns a few bytes. A run whose worker dies, or whose whole machine,
goes on elsewhere from its checkpoint. Ray's own retries are off: they would start it again while its lock is still held, and
without end where memory runs out.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from latent.experiment.run_directory import RunDirectory, RunError, RunInUse
from latent.experiment.runner import Interrupted
from latent.sweeps.execution import execute_directory, log_warnings, printing_to
from latent.sweeps.launcher import LauncherError, Need, Stopped, Tick
from latent.sweeps.waiting import Waiting

Outcome = Literal["ended", "in use", "stopped", "died"]
"""How a task ended: its run has an end of its own, or another process has it, or a signal stopped it, or its worker died."""

RETRIES = 3
"""How often a run is started again whose worker died without a new checkpoint."""
MOST_SUBMITTED = 1000
"""Tasks that Ray has at a time, so that it sees what it could have room for, and is not flooded."""
OBJECT_STORE_BYTES = 80 * 2**20
"""About the least that Ray accepts: nothing is kept there."""
SECONDS_BETWEEN_LOOKS = 0.5
SECONDS_TO_CONNECT = 30
SECONDS_TO_STOP = 60

log = logging.getLogger(__name__)


class RayLauncher:
    """Runs runs as tasks of a Ray cluster, one that exists or one of this machine alone, for the time of the sweep.

    Args:
        needs: what each run is given; Ray decides where it has room for it.
        workers: runs at a time; without it, as many as there is room for.
        address: ``host:port`` of a cluster, or ``auto``; without it, one is started here.

    Raises:
        LauncherError: if Ray cannot give a run what it needs, or the cluster does not answer.
    """

    def __init__(self, needs: Mapping[Path, Need], workers: int | None, address: str | None) -> None:
        self.needs = needs
        self.workers = workers
        self.address = address
        for gpus in {need.gpus for need in needs.values()}:
            if gpus > 1 and gpus != int(gpus):
                raise LauncherError(f"sweep.gpus must be a whole number, or a fraction below 1, got {gpus}")
        if address is not None:
            _check_answers(address)

    def __call__(self, directories: Sequence[Path], tick: Tick) -> dict[Path, str]:
        """See :class:`~latent.sweeps.launcher.Launcher`."""
        waiting = Waiting(directories)
        tries: Counter[tuple[Path, int]] = Counter()
        crashes: dict[Path, str] = {}
        with self._connected() as ray:
            running: dict[Any, Path] = {}
            try:
                self._check_room(ray)
                work = ray.remote(max_retries=0)(_work)
                while waiting or running:
                    for directory in waiting.take((self.workers or MOST_SUBMITTED) - len(running)):
                        running[self._submit(work, directory)] = directory
                    for task in _ended(ray, running):
                        directory = running.pop(task)
                        outcome, why = _outcome(ray, task)
                        if outcome == "in use":
                            waiting.set_aside(directory)
                        elif outcome == "ended":
                            crashes |= {directory: why} if why else {}
                        elif self._is_worth_a_try(tries, directory):
                            log.warning("%s: %s; it goes on from its checkpoint", directory.name, why)
                            waiting.put_back(directory)
                        else:
                            crashes[directory] = f"{why}, {RETRIES + 1} times without a new checkpoint in between"
                    tick()
            except KeyboardInterrupt:
                raise Stopped from None
            finally:
                _cancel(ray, list(running))
        return crashes

    def _is_worth_a_try(self, tries: Counter[tuple[Path, int]], directory: Path) -> bool:
        """Whether a run has come further since its last try, or has tries left."""
        checkpoint = 0
        with contextlib.suppress(OSError):
            checkpoint = RunDirectory(directory).checkpoint.stat().st_mtime_ns
        tries[directory, checkpoint] += 1
        return tries[directory, checkpoint] <= RETRIES

    def _submit(self, work: Any, directory: Path) -> Any:
        threads, gpus = self.needs[directory]
        environment = {"OMP_NUM_THREADS": str(threads)} | ({"PYTHONPATH": path} if (path := _python_path()) else {})
        given = {"num_cpus": threads, "num_gpus": gpus, "runtime_env": {"env_vars": environment}}
        return work.options(name=directory.name, **given).remote(directory, Path.cwd())

    def _check_room(self, ray: Any) -> None:
        """Refuse what a cluster of this machine alone never has; to another cluster, machines may be added."""
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        for need in sorted(set(self.needs.values())):
            if any(node.get("CPU", 0) >= need.threads and node.get("GPU", 0) >= need.gpus for node in nodes):
                continue
            wanted = f"{need.threads} processors" + (f" and {need.gpus:g} GPUs" if need.gpus else "")
            if self.address is None:
                raise LauncherError(f"a run needs {wanted}, which this machine does not have")
            log.warning("no machine of the cluster has %s now: runs that need them wait", wanted)

    @contextlib.contextmanager
    def _connected(self) -> Iterator[Any]:
        """Ray, connected; a cluster that was started here ends with it, and any other goes on."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import ray

        settings: dict[str, Any] = {"address": self.address, "logging_level": logging.ERROR, "log_to_driver": False}
        if self.address is None:
            threads = max((need.threads for need in self.needs.values()), default=1)
            processors = self.workers * threads if self.workers else len(os.sched_getaffinity(0))
            settings |= {"address": "local", "num_cpus": processors, "include_dashboard": False}
            settings |= {"object_store_memory": OBJECT_STORE_BYTES}
        with _sigterm_kept():
            try:
                ray.init(**settings)
            except (RuntimeError, OSError, ValueError) as error:
                raise LauncherError(f"Ray cannot be used: {str(error).splitlines()[0]}") from error
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # of what Ray prints there, the launcher says what matters
                yield ray
        finally:
            ray.shutdown()


def _work(directory: Path, working_directory: Path) -> tuple[Outcome, str]:
    """What a worker does: one run, in the working directory of the sweep, on which relative paths depend."""
    try:
        os.chdir(working_directory)
    except OSError as error:
        return "ended", f"the machine {os.uname().nodename} lacks the folder {working_directory} ({error.strerror})"
    with printing_to(directory / "output.txt"):
        log_warnings()
        try:
            execute_directory(directory)
        except RunInUse:
            return "in use", ""
        except RunError:
            return "ended", ""  # its error.txt says why
        except (Interrupted, KeyboardInterrupt):
            return "stopped", "its worker was stopped by a signal"
    return "ended", ""


def _ended(ray: Any, running: Mapping[Any, Path]) -> list[Any]:
    if not running:
        time.sleep(SECONDS_BETWEEN_LOOKS)
        return []
    ended: list[Any] = ray.wait(list(running), timeout=SECONDS_BETWEEN_LOOKS)[0]
    return ended


def _outcome(ray: Any, task: Any) -> tuple[Outcome, str]:
    try:
        outcome: tuple[Outcome, str] = ray.get(task)
        return outcome
    except ray.exceptions.RayTaskError as error:  # it could not start, as where packages are missing
        return "ended", f"its worker failed: {type(error.cause).__name__}: {error.cause}"
    except ray.exceptions.RuntimeEnvSetupError as error:
        return "ended", f"Ray could not start a worker: {error}"
    except ray.exceptions.OutOfMemoryError:
        return "died", "its worker was ended by Ray because memory ran out"
    except ray.exceptions.RayError:
        return "died", "its worker died"


def _cancel(ray: Any, tasks: list[Any]) -> None:
    """Ask runs to stop after their step, and wait for their checkpoints."""
    for task in tasks:
        ray.cancel(task)
    if tasks:
        ray.wait(tasks, num_returns=len(tasks), timeout=SECONDS_TO_STOP)


def _check_answers(address: str) -> None:
    """Try to connect in a process of its own: where nothing answers, Ray itself tries for minutes, and cannot be stopped."""
    if "://" in address:
        raise LauncherError(f"--address must be auto or host:port of a Ray cluster, got {address}")
    code = "import ray, sys; ray.init(address=sys.argv[1], logging_level='ERROR', log_to_driver=False)"
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, address], capture_output=True, timeout=SECONDS_TO_CONNECT, check=False
        )
        if done.returncode == 0:
            return
        said, reason = done.stderr, (done.stderr.decode(errors="replace").strip().splitlines() or ["no reason is given"])[-1]
    except subprocess.TimeoutExpired as late:
        said, reason = late.stderr or b"", f"no answer in {SECONDS_TO_CONNECT} s"
    hint = "; it wants a token: set RAY_AUTH_MODE=token" if b"Unauthenticated" in said else ""
    raise LauncherError(f"no connection to a Ray cluster at {address}: {reason}{hint}")


def _python_path() -> str:
    """Where workers find the project's packages that are not installed, and whatever the sweep was told to find."""
    given = os.environ.get("PYTHONPATH", "")
    root = str(Path(__file__).parents[2])
    return given if "site-packages" in root else os.pathsep.join(filter(None, (root, given)))


@contextlib.contextmanager
def _sigterm_kept() -> Iterator[None]:
    """Undo that Ray takes over SIGTERM."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)
