"""Time of training steps of the signaling game as its vocabulary grows, and of the sparse mappings alone.

    python benchmarks/large_vocabulary.py [--repeats 20] [--sizes 256 4096 65536]

Everything runs in this process, on one thread, with the sizes of ``step_time.py`` but for the number of messages. Times are
those of the processor; the calls that a row compares alternate, and a ratio is that of their medians.

The first table holds forward and backward of a mapping alone, on 64 rows of scores, against the package entmax: its sort of all
scores, or, for a learned alpha, its 50 bisections in double precision. *Few*: three states are far above the others. *Wide*:
scores of 0.003 about zero, as in the first steps.

The second holds whole steps. The sender's weights are such that sparsemax has a support of three, and the learning rate is so
small that this stays. *Last layer* is the sender's last layer with its optimiser alone, which no estimator can do without: the
step's growth is to be held against its growth. The third holds the same step where the support is wide.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import entmax
import step_time
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from estimators.mappings import alpha_entmax
from latent.experiment.configuration import load
from latent.experiment.experiment import prepare
from latent.experiment.training import Training

BATCH, HIDDEN, SUPPORT, WARM_UP = step_time.BATCH, step_time.HIDDEN, 3, 3
ESTIMATORS = ("sparsemax", "score_function", "top_k_sparsemax", "bounded_sparse")
STILL = 1e-30
"""A learning rate at which no parameter changes."""


def alternating(functions: list[Callable[[], object]], repeats: int) -> list[float]:
    """Median processor times of functions whose calls alternate, in milliseconds."""
    times: list[list[float]] = [[] for _ in functions]
    for repeat in range(repeats + WARM_UP):
        for function, record in zip(functions, times, strict=True):
            begun = time.process_time()
            function()
            if repeat >= WARM_UP:
                record.append(time.process_time() - begun)
    return [statistics.median(record) * 1e3 for record in times]


def through(mapping: Callable[[Tensor], Tensor], scores: Tensor, *others: Tensor) -> Callable[[], object]:
    """Forward and backward of a mapping."""
    leaves = [scores.clone().requires_grad_(), *others]
    direction = torch.randn_like(scores)
    return lambda: torch.autograd.grad(mapping(leaves[0]), leaves, direction)


def bisected(alpha: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda scores: entmax.entmax_bisect(scores.double(), alpha.expand(len(scores), 1), dim=-1).to(scores.dtype)


def mappings(sizes: list[int], repeats: int) -> Table:
    table = Table("mapping", "K", "scores", "support", "ms", "entmax, ms", "times as fast", title="mappings, one thread")
    learned = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
    kinds = {
        "sparsemax": (2.0, lambda scores: entmax.sparsemax(scores, -1), ()),
        "1.5-entmax": (1.5, lambda scores: entmax.entmax15(scores, -1), ()),
        "learned alpha, 1.3": (learned, bisected(learned), (learned,)),
    }
    for size in sizes:
        few = 0.01 * torch.randn(BATCH, size) - 10
        few[:, :SUPPORT] += 10
        for name, (alpha, other, parameters) in kinds.items():
            for label, scores in (("few", few), ("wide", 0.003 * torch.randn(BATCH, size))):
                own = through(lambda scores, alpha=alpha: alpha_entmax(scores, alpha), scores, *parameters)
                support = float((alpha_entmax(scores, alpha) > 0).sum(1).double().mean())
                a, b = alternating([own, through(other, scores, *parameters)], max(5, repeats * 256 // size))
                table.add_row(name, str(size), label, f"{support:.0f}", f"{a:.2f}", f"{b:.2f}", f"{b / a:.1f}")
    return table


def training(folder: Path, estimator: str, size: int, wide: bool) -> Callable[[], object]:
    """The runner's own training step."""
    path = folder / "benchmark.yaml"
    path.write_text(step_time.CONFIGURATION)
    overrides = [f"estimator.name={estimator}", f"game.vocabulary_size={size}", f"train.learning_rate={STILL}"]
    experiment = prepare(load(path, overrides), folder)
    if not wide:
        last = experiment.objective.task.sender.layers[-1]
        with torch.no_grad():
            last.weight.mul_(1e-6)
            last.bias.fill_(-10).index_fill_(0, torch.randperm(size)[:SUPPORT], 0.0)
    return Training(experiment).train_step


def last_layer(size: int) -> Callable[[], object]:
    layer, hidden, direction = nn.Linear(HIDDEN, size), torch.randn(BATCH, HIDDEN).requires_grad_(), torch.randn(BATCH, size)
    optimizer = torch.optim.Adam(layer.parameters(), lr=STILL, fused=True)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        layer(hidden).backward(direction)
        optimizer.step()

    return step


def steps(sizes: list[int], repeats: int, wide: bool) -> Table:
    columns = ("K", "last layer, ms", "its growth", "step", "ms", "growth", "growth / layer's", "/ score function")
    table = Table(*columns, title=f"training steps, one thread, {'wide support' if wide else f'support {SUPPORT}'}")
    first: dict[str, float] = {}
    for size in sizes:
        with tempfile.TemporaryDirectory() as temporary:
            functions = {name: training(Path(temporary), name, size, wide) for name in ESTIMATORS}
            functions["last layer"] = last_layer(size)
            rounds = max(8, repeats * 256 // size)
            times = dict(zip(functions, alternating(list(functions.values()), rounds), strict=True))
        first = first or times
        growth = {name: times[name] / first[name] for name in times}
        layer = growth["last layer"]
        for name in ESTIMATORS:
            shares = (f"{growth[name]:.2f}", f"{growth[name] / layer:.2f}", f"{times[name] / times['score_function']:.2f}")
            table.add_row(str(size), f"{times['last layer']:.2f}", f"{layer:.1f}", name, f"{times[name]:.2f}", *shares)
        del functions
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=100, help="timed calls at K = 256, fewer above (default: %(default)s)")
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 4096, 65536], metavar="K", help="vocabularies")
    parser.add_argument("--only", choices=("mappings", "few", "wide"), help="one of the tables")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    console = Console(width=140)
    if arguments.only in (None, "mappings"):
        console.print(mappings(arguments.sizes, arguments.repeats))
    for name in ("few", "wide"):
        if arguments.only in (None, name):
            console.print(steps(arguments.sizes, arguments.repeats, name == "wide"))


if __name__ == "__main__":
    main()
