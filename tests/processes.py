"""Commands in processes of their own: how tests start them, wait for what they do, and find their processes."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.conftest import ROOT

AT_LAST = 900
"""Seconds after which a test gives up on what never comes: what works takes nowhere near as long, however busy the machine."""
WITH_DEFAULT_SIGNALS = (
    "import os, signal, sys\n"
    "for number in (signal.SIGINT, signal.SIGTERM): signal.signal(number, signal.SIG_DFL)\n"
    "os.execv(sys.argv[1], sys.argv[1:])\n"
)
"""A signal that is ignored stays so in every process that is started, as where a script runs the tests in the background."""


def start(command, **options):
    """Start a command as a terminal does, with SIGINT and SIGTERM as they are by default; what it prints is text."""
    wrapped = [sys.executable, "-I", "-S", "-c", WITH_DEFAULT_SIGNALS, *map(str, command)]
    return subprocess.Popen(wrapped, text=True, **{"cwd": ROOT, **options})


@contextlib.contextmanager
def default_signals():
    """SIGINT and SIGTERM as they are by default in this process, for what a library starts in it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler), signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        yield
    finally:
        for number, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
            signal.signal(number, handler)


def wait_until(condition, process=None, why=""):
    """Wait for what a condition returns to be true, and return it; the process that brings it about must not end before."""
    deadline = time.monotonic() + AT_LAST
    while not (found := condition()):
        assert process is None or process.poll() is None or condition(), f"the process has ended. {why}"
        assert time.monotonic() < deadline, f"nothing for {AT_LAST} seconds. {why}"
        time.sleep(0.005)
    return found


def ended(process, code=0):
    """What a process has printed, once it has ended with this exit code."""
    output, errors = process.communicate(timeout=AT_LAST)
    assert process.returncode == code, (output, errors)
    return (output or "") + (errors or "")


def holder(directory):
    """The process that works on a run, None where there is none yet."""
    lock = str(directory / ".lock")
    others = (int(path.name) for path in Path("/proc").glob("[0-9]*"))
    return next((pid for pid in others if pid != os.getpid() and lock in _open_files(pid)), None)


def _open_files(pid):
    """What a process has open; nothing where it has ended, or is not ours."""
    found = set()
    with contextlib.suppress(OSError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            found.add(str(link.readlink()))
    return found
