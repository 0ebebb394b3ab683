"""Peak memory of a training step of each estimator, above that of the idle process.

    python benchmarks/step_memory.py

Each estimator is measured in a process of its own, on the sizes of step_time.py: peak resident memory after ten steps, less the
resident memory before the first step, once networks, data and optimiser exist.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from step_time import VOCABULARY, framework

CASES = {
    "dense": ("dense", 0),
    "sparsemax, support 3": ("sparsemax", 3),
    "sparsemax, full support": ("sparsemax", VOCABULARY),
    "score function": ("score_function", 0),
    "Gumbel-softmax": ("gumbel_softmax", 0),
}


def resident() -> int:
    """Resident memory of this process, in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def measure(case: str) -> float:
    """Peak above idle, in MB."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        step = framework(Path(folder), *CASES[case])
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew: building the data set does not count
    idle = resident()
    for _ in range(10):
        step()
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return (int(peak.split()[1]) * 1024 - idle) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=CASES, help="measure one estimator in this process")
    case = parser.parse_args().case
    if case:
        print(measure(case))
        return
    table = Table("step", "MB above idle", title="peak memory, batch 64, 256 messages, 16 candidates")
    for each in CASES:
        found = subprocess.run([sys.executable, __file__, "--case", each], capture_output=True, text=True, check=True)
        table.add_row(each, f"{float(found.stdout):.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
