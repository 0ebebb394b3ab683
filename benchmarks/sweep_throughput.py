"""What a sweep costs beside its runs: eight runs, two at a time, against one alone; and the launcher's own time for a run.

    python benchmarks/sweep_throughput.py

Wants two processors that do nothing else. W&B is disabled. The time of the launcher is that of runs of one step in processes
of their own, less that of as many in this process.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
STEPS = 1500
SHORT_RUNS = 40


def sweep(out: Path, *arguments: str) -> None:
    """Run the command as a user does."""
    command = [sys.executable, "-m", "latent", "sweep", str(ROOT / "configs/signal_game/sparsemax.yaml"), "--out", str(out)]
    environment = os.environ | {"WANDB_MODE": "disabled", "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, *arguments], check=True, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)


def seconds_of_sweep(folder: Path, seeds: int, workers: int) -> float:
    """Wall time of the whole command."""
    begun = time.perf_counter()
    sweep(folder, f"train.steps={STEPS}", "--seeds", str(seeds), "--workers", str(workers))
    return time.perf_counter() - begun


def seconds_per_launch(folder: Path) -> float:
    """What a process of its own costs a run; the first one, which starts the server that forks them, is not counted."""
    from latent.experiment.overrides import parse_override
    from latent.sweeps.debug import DebugLauncher
    from latent.sweeps.local import LocalLauncher
    from latent.sweeps.plan import plan

    tiny = ["game.vocabulary_size=8", "game.validation_games=8", "game.test_games=8", "train.steps=1", "data.name=synthetic"]
    configuration, overrides = ROOT / "configs/signal_game/sparsemax.yaml", [parse_override(each) for each in tiny]
    runs = plan([configuration], overrides, folder, 2 * SHORT_RUNS + 2)
    for run in runs:
        run.write()
    first, *processes = [run.directory.path for run in runs[: SHORT_RUNS + 1]]
    other, *here = [run.directory.path for run in runs[SHORT_RUNS + 1 :]]
    seconds = []
    for launch, warm_up, directories in ((LocalLauncher(workers=1), first, processes), (DebugLauncher(), other, here)):
        launch([warm_up], lambda: None)
        begun = time.perf_counter()
        launch(directories, lambda: None)
        seconds.append(time.perf_counter() - begun)
        if not all((directory / "done.json").exists() for directory in directories):
            raise SystemExit("a run did not finish")
    return (seconds[0] - seconds[1]) / SHORT_RUNS


if __name__ == "__main__":
    os.environ["WANDB_MODE"] = "disabled"
    with tempfile.TemporaryDirectory() as folder:
        alone = seconds_of_sweep(Path(folder) / "one", 1, 1)
        eight = seconds_of_sweep(Path(folder) / "eight", 8, 2)
        each = seconds_per_launch(Path(folder) / "tiny")
    print(f"eight runs, two at a time: {eight / alone:.2f} times one run alone (limit 4.6)")
    print(f"launcher, per run after the first: {each:.3f} s (limit 0.2)")
