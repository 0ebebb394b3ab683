"""Time of the published sender's scalar function against its formula in torch's own operations.

    python benchmarks/published_sender.py [--repeats 30]

Forward and backward of 64 examples of 256 coordinates and 512 hidden units, on one thread. The two sides alternate, times are
those of the processor, and the ratio is that of their medians.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from games.agents.scalar_function import scalar_function

BATCH, COORDINATES, UNITS, WARM_UP = 64, 256, 512, 3
Function = Callable[[Tensor, Tensor, Tensor], Tensor]


def formula(embedded: Tensor, expand_weight: Tensor, contract_weight: Tensor) -> Tensor:
    hidden = torch.sigmoid(nn.functional.linear(embedded.unsqueeze(-1), expand_weight))
    return torch.sigmoid(nn.functional.linear(hidden, contract_weight)).squeeze(-1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=30, help="timed calls of each side (default: %(default)s)")
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    torch.manual_seed(0)
    layers = nn.Linear(1, UNITS, bias=False), nn.Linear(UNITS, 1, bias=False)
    leaves = [torch.randn(BATCH, COORDINATES).requires_grad_(), *(layer.weight for layer in layers)]
    direction = torch.randn(BATCH, COORDINATES)
    functions: dict[str, Function] = {"formula": formula, "scalar_function": scalar_function}
    times: dict[str, list[float]] = {name: [] for name in functions}
    gradients = {}
    for repeat in range(repeats + WARM_UP):
        for name, function in functions.items():
            begun = time.process_time()
            gradients[name] = torch.autograd.grad(function(*leaves), leaves, direction)
            if repeat >= WARM_UP:
                times[name].append(time.process_time() - begun)
    table = Table("function", "ms", "ratio", title="the published sender's scalar function, one thread")
    medians = {name: statistics.median(record) * 1e3 for name, record in times.items()}
    for name, median in medians.items():
        table.add_row(name, f"{median:.1f}", f"{median / medians['formula']:.2f}")
    console = Console()
    console.print(table)
    pairs = zip(*gradients.values(), strict=True)
    gaps = [f"{float((new - old).norm() / old.norm()):.1e}" for old, new in pairs]
    console.print(f"relative difference of the gradients in x, b and c: {', '.join(gaps)}")


if __name__ == "__main__":
    main()
