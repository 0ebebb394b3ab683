"""What a table and a page of a thousand runs with a thousand rows of metrics each cost: time and memory of the commands.

    python benchmarks/many_runs.py [--runs 1000] [--rows 1000]

The runs are made up: five estimators, twenty cells of a grid each, ten seeds. The limits are a minute and 2 GB.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
SECONDS, BYTES = 60, 2e9
ESTIMATORS = ("dense", "sparsemax", "entmax", "gumbel_softmax", "score_function")


def make(folder: Path, runs: int, rows: int) -> None:
    """Write run directories as the tests do."""
    sys.path.insert(0, str(ROOT))
    from tests.reports.made_runs import made_run

    for i in range(runs):
        estimator, cell, seed = ESTIMATORS[i % 5], i // 5 % 20, i // 100
        made_run(folder, estimator, seed, steps=rows, every=1, grid={"train.learning_rate": 0.001 * (cell + 1)})


def cost(*arguments: str) -> tuple[float, float]:
    """Seconds and peak memory in bytes of a command."""
    begun = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "latent", *arguments], cwd=ROOT, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"latent {arguments[0]} failed")
    return time.perf_counter() - begun, _bytes(used)


def _bytes(used: resource.struct_rusage) -> float:
    return float(used.ru_maxrss) * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=1000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder) / "results", asked.runs, asked.rows)
        failed = False
        for command, file in (("table", "table.md"), ("report", "report.html")):
            seconds, memory = cost(command, f"{folder}/results", "--out", f"{folder}/{file}")
            size = (Path(folder) / file).stat().st_size
            print(f"latent {command}: {seconds:.0f} s, {memory / 1e9:.2f} GB, {size / 1e6:.2f} MB written")
            failed |= seconds > SECONDS or memory > BYTES
    sys.exit(failed)
