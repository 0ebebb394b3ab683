"""Time and memory of the latent-variable models' training steps, where what they decode is known.

    python benchmarks/model_steps.py [--repeats 30]

Time is a ratio in one process, on one thread: steps of the two sides alternate, and a ratio is that of their medians. Times are
those of the processor, so that other processes count for little. The framework's step is the runner's own, at the sizes of the
published configurations; images are random ones of 28 x 28 pixels, so that no data set is needed. *Pairs* are those that the
left side decodes for an image, as the step itself counted them.

- Semi-supervised auto-encoder, 64 labelled and 64 unlabelled images: each estimator against the score function, sparsemax with
  two labels in the support of three images in ten and one in that of the others. Dense also against a hand-written step.
- Bit-vector auto-encoder, 32 bits, batches of 64, 256 levels: top-k sparsemax with k = 10 and SparseMAP against as many steps
  of the score function as they decode pairs. The score function also against a hand-written step that holds all logits, which
  the framework never does.
- Memory, 128 bits: peak resident memory of ten steps, less the resident memory before the first, in a process of its own.

A support is chosen: the scores are replaced by ones that have it, while the gradient passes to the network that made them. A
learning rate next to nothing keeps everything else as initialised.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import models_by_hand
import torch
from estimator_time import interleaved
from rich.console import Console
from rich.table import Table
from step_memory import resident
from torch import Tensor, nn

from latent.datasets import SPLITS, ImageSet
from latent.experiment.configuration import load
from latent.experiment.experiment import data_key, prepare
from latent.experiment.training import Training

CONFIGURATIONS = Path(__file__).parents[1] / "configs"
BATCH, LABELLED, LABELS, IMAGES, SIDE, BITS, MANY_BITS = 64, 5000, 10, 6000, 28, 32, 128
OVERRIDES = ["train.learning_rate=1e-12", "train.warm_start_steps=0"]
SCORE_FUNCTION = ("estimator.name=score_function", "estimator.baseline=moving_average")
TOP_K = ("estimator.name=top_k_sparsemax", "estimator.k=10")
SPARSE_MAP = ("estimator.name=sparse_map",)


@cache
def images() -> ImageSet:
    """Random images with random labels, all but two for training."""
    generator = torch.Generator().manual_seed(0)
    split = torch.full((IMAGES,), SPLITS["train"])
    split[-2:] = torch.tensor([SPLITS["validation"], SPLITS["test"]])
    return ImageSet(
        torch.randint(0, 256, (IMAGES, SIDE, SIDE), dtype=torch.uint8, generator=generator),
        torch.arange(IMAGES) % LABELS,
        split,
        "random",
    )


def hold(network: nn.Module, scores: Tensor) -> None:
    """Make these the scores that come out of a network, and leave its gradient as it is."""
    network.register_forward_hook(lambda module, inputs, output: output + (scores - output).detach())


def label_scores() -> Tensor:
    """``[2 B, K]``, for labelled images and others: of sparsemax, two labels in three images out of ten, one in the rest."""
    scores = torch.full((BATCH, LABELS), -4.0)
    scores[:, 0] = 0
    scores[: round(0.3 * BATCH), 1] = 0
    return scores.repeat(2, 1)


def nested_scores(bits: int, least: int, most: int) -> Tensor:
    """``[B, D]``: of SparseMAP, ``least`` to ``most`` states, as many images with each number."""
    scores = torch.linspace(-0.9, 0.9, bits).repeat(BATCH, 1)
    states = least + torch.arange(BATCH) % (most - least + 1)
    off = torch.arange(bits) >= states.unsqueeze(1) - 1
    return scores.masked_fill(off, -2)


def framework(task: str, *overrides: str, scores: Tensor | None = None) -> Training:
    """The runner's own training of a published configuration, on random images."""
    configuration = load(CONFIGURATIONS / task / "published.yaml", [*OVERRIDES, *overrides])
    nowhere = Path(task)  # a step writes nothing
    experiment = prepare(configuration, nowhere, {data_key(configuration): images()})
    if scores is not None:
        hold(experiment.objective.network.get_submodule("classifier" if task == "ssvae" else "encoder"), scores)
    return Training(experiment)


class Row(NamedTuple):
    """Two steps to compare. ``limit`` is that of the ratio, and of that for each pair where ``each_pair``."""

    label: str
    step: Training
    against: str
    baseline: Callable[[], object]
    limit: float | None = None
    each_pair: bool = False


def compare(title: str, rows: list[Row], repeats: int) -> None:
    """Print a table of time."""
    table = Table("step", "pairs", "against", "ms", "ms", "ratio", "limit", title=title)
    for row in rows:
        left, right = interleaved([row.step.train_step, row.baseline], repeats)
        pairs = int(row.step.total_decoder_calls) / (row.step.step * BATCH)
        against = f"{pairs:.2f} x {row.against}" if row.each_pair else row.against
        right *= pairs if row.each_pair else 1
        cells = (f"{pairs:.2f}", against, f"{left:.1f}", f"{right:.1f}", f"{left / right:.2f}", str(row.limit or ""))
        table.add_row(row.label, *cells)
    Console(width=120).print(table)


def semi_supervised(repeats: int) -> None:
    held = partial(framework, "ssvae", scores=label_scores())
    baseline = held(*SCORE_FUNCTION).train_step
    dense = held("estimator.name=dense")
    by_hand = models_by_hand.DenseSemiSupervised(images(), BATCH, LABELLED).step
    sum_and_sample = held("estimator.name=sum_and_sample", "estimator.baseline=moving_average")
    rows = [
        Row("sparsemax", held("estimator.name=sparsemax"), "score function", baseline, 1.3),
        Row("sum and sample", sum_and_sample, "score function", baseline),
        Row("dense", dense, "score function", baseline),
        Row("dense", dense, "dense by hand", by_hand),
    ]
    compare("semi-supervised auto-encoder, one thread", rows, repeats)


def bit_vectors(repeats: int) -> None:
    bits = partial(framework, "bit_vector_vae", f"model.bits={BITS}")
    score_function = bits(*SCORE_FUNCTION)
    every_state = bits(*TOP_K, scores=torch.zeros(BATCH, BITS))
    sparse_map = bits(*SPARSE_MAP, scores=nested_scores(BITS, 4, 6))
    by_hand = models_by_hand.ScoreFunctionBits(images(), BATCH, BITS).step
    baseline = ("score function", score_function.train_step, 1.3, True)
    rows = [
        Row("top-k sparsemax, all states", every_state, *baseline),
        Row("top-k sparsemax, as initialised", bits(*TOP_K), *baseline),
        Row("SparseMAP", sparse_map, *baseline),
        Row("score function", score_function, "score function by hand", by_hand),
    ]
    compare("bit-vector auto-encoder, one thread", rows, repeats)


class Case(NamedTuple):
    """A step whose memory is measured, with its limit in MB."""

    label: str
    overrides: tuple[str, ...]
    scores: Tensor
    limit: int | None = None


CASES = {
    "top-k": Case("top-k sparsemax, all states", TOP_K, torch.zeros(BATCH, MANY_BITS), 1500),
    "sparse-map": Case("SparseMAP, all states", SPARSE_MAP, nested_scores(MANY_BITS, MANY_BITS + 1, MANY_BITS + 1)),
}


def measure(case: str) -> tuple[float, float]:
    """Pairs of an image, and the peak above idle in MB, of this process."""
    torch.set_num_threads(1)
    training = framework("bit_vector_vae", f"model.bits={MANY_BITS}", *CASES[case].overrides, scores=CASES[case].scores)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew: building the data set does not count
    idle = resident()
    for _ in range(10):
        training.train_step()
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    pairs = int(training.total_decoder_calls) / (training.step * BATCH)
    return pairs, (int(peak.split()[1]) * 1024 - idle) / 1e6


def memory() -> None:
    title = f"peak memory of the bit-vector auto-encoder, {MANY_BITS} bits, batch {BATCH}"
    table = Table("step", "pairs", "MB above idle", "limit", title=title)
    for name, case in CASES.items():
        command = [sys.executable, __file__, "--case", name]
        pairs, megabytes = map(float, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
        table.add_row(case.label, f"{pairs:.2f}", f"{megabytes:.0f}", str(case.limit or ""))
    Console(width=120).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=30, help="timed steps of each side (default: %(default)s)")
    parser.add_argument("--case", choices=CASES, help="measure the memory of one step in this process, and nothing else")
    arguments = parser.parse_args()
    if arguments.case:
        print(*measure(arguments.case))
        return
    torch.set_num_threads(1)
    torch.manual_seed(0)
    semi_supervised(arguments.repeats)
    bit_vectors(arguments.repeats)
    memory()


if __name__ == "__main__":
    main()
