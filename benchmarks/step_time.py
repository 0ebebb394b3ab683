"""Time of a training step of each estimator against a hand-written plain-torch step of the same mathematics.

    python benchmarks/step_time.py [--repeats 60]

Everything runs in this process, on one thread, on the published game's sizes: 256 messages, 16 candidates, batches of 64, and
1280 features. Steps of the two sides alternate, and a ratio is that of their medians. The framework's step is the runner's
own: it draws the games, counts the decoder calls and accumulates every metric.

A sparse step is timed at a chosen support: the sender's weights are frozen at scores whose sparsemax has that many nonzeros.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import by_hand
import torch
from rich.console import Console
from rich.table import Table

from games.datasets import DATASETS
from games.sampling import GameSampler
from latent.experiment.configuration import load
from latent.experiment.experiment import prepare
from latent.experiment.training import Training

VOCABULARY, HIDDEN, BATCH, CANDIDATES, FEATURES = 256, 256, 64, 16, 1280
CONFIGURATION = f"""
task: signal_game
estimator: {{name: dense}}
game:
  vocabulary_size: {VOCABULARY}
  sender: {{hidden_size: {HIDDEN}}}
  receiver: {{hidden_size: {HIDDEN}}}
  candidates: {CANDIDATES}
  entropy_coefficient: 0.05
data: {{name: synthetic, concepts: 200, images: 40, size: {FEATURES}}}
train: {{batch_size: {BATCH}, steps: 1000000, log_every: 1000000, evaluate_every: 1000000, checkpoint_every: 1000000}}
tracking: {{wandb: disabled}}
"""


def fix_support(sender: torch.nn.Sequential, support: int) -> None:
    """Make the sender's scores constant, with ``support`` states tied at the top, and stop them from learning."""
    last = sender[-1]
    with torch.no_grad():
        last.weight.mul_(1e-6)
        last.bias.fill_(-10).index_fill_(0, torch.randperm(VOCABULARY)[:support], 0.0)
    for parameter in (last.weight, last.bias):
        parameter.register_hook(torch.zeros_like)


def framework(folder: Path, estimator: str, support: int = 0) -> Callable[[], object]:
    """The runner's own training step."""
    path = folder / "benchmark.yaml"
    path.write_text(CONFIGURATION)
    experiment = prepare(load(path, [f"estimator.name={estimator}"]), folder)
    if support:
        fix_support(experiment.objective.task.sender.layers, support)
    return Training(experiment).train_step


def hand_written(kind: type[by_hand.ByHand], support: int = 0) -> Callable[[], object]:
    """The hand-written step."""
    data = DATASETS["synthetic"](concepts=200, images=40, size=FEATURES).with_validation(0.1)
    step = kind(data.features, GameSampler(data, "train", CANDIDATES), VOCABULARY, HIDDEN, BATCH)
    if support:
        fix_support(step.sender, support)
    return step.step


def interleaved(left: Callable[[], object], right: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Median times of two functions whose calls alternate, in milliseconds."""
    times: tuple[list[float], list[float]] = ([], [])
    for repeat in range(repeats + 5):
        for function, record in zip((left, right), times, strict=True):
            begun = time.perf_counter()
            function()
            if repeat >= 5:
                record.append(time.perf_counter() - begun)
    return statistics.median(times[0]) * 1e3, statistics.median(times[1]) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=60, help="timed steps of each side (default: %(default)s)")
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    torch.manual_seed(0)
    table = Table("step", "against", "ms", "ms", "ratio", title="training steps, one thread")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        steps = {
            "dense": framework(folder, "dense"),
            "sparsemax, support 3": framework(folder, "sparsemax", 3),
            "sparsemax, full support": framework(folder, "sparsemax", VOCABULARY),
            "score function": framework(folder, "score_function"),
            "dense by hand": hand_written(by_hand.Dense),
            "sparsemax by hand, support 3": hand_written(by_hand.Sparse, 3),
            "score function by hand": hand_written(by_hand.ScoreFunction),
        }
        for left, right in (
            ("dense", "dense by hand"),
            ("sparsemax, support 3", "sparsemax by hand, support 3"),
            ("score function", "score function by hand"),
            ("sparsemax, full support", "dense"),
            ("sparsemax, support 3", "score function"),
            ("dense", "score function"),
        ):
            a, b = interleaved(steps[left], steps[right], repeats)
            table.add_row(left, right, f"{a:.2f}", f"{b:.2f}", f"{a / b:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
