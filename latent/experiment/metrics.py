"""Metrics of a run: means over steps, norms of gradients, and the file that holds them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import TracebackType

import torch
from torch import Tensor, nn

from latent.experiment.checkpoint import State
from latent.experiment.run_directory import Row


class RunningMeans:
    """Means of each metric over the examples and steps since they were last asked for, summed on the device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.sums: dict[tuple[str, ...], tuple[int, Tensor]] = {}
        """Steps, and sums over them, of each set of metrics that came together: those of a warm start are others."""

    def add(self, metrics: dict[str, Tensor]) -> None:
        """Add one step's metrics, ``[B]`` each."""
        names = tuple(metrics)
        steps, total = self.sums.get(names, (0, torch.zeros((), dtype=torch.float64, device=self.device)))
        self.sums[names] = steps + 1, total + torch.stack([metrics[name].double() for name in names]).mean(1)

    def pop(self) -> dict[str, float]:
        """The means; counting starts anew. A metric's mean is over the steps that had it."""
        found: dict[str, tuple[int, float]] = {}
        for names, (steps, total) in self.sums.items():
            for name, value in zip(names, total.tolist(), strict=True):
                before = found.get(name, (0, 0.0))
                found[name] = before[0] + steps, before[1] + value
        self.sums = {}
        return {name: value / steps for name, (steps, value) in found.items()}

    def state(self) -> list[State]:
        """What :meth:`restore` goes back to."""
        return [{"names": list(names), "steps": steps, "total": total} for names, (steps, total) in self.sums.items()]

    def restore(self, state: list[State]) -> None:
        """Go back to what :meth:`state` returned."""
        self.sums = {tuple(each["names"]): (each["steps"], each["total"].to(self.device)) for each in state}


def gradient_norm(module: nn.Module) -> Tensor:
    """Euclidean norm of the gradient of all parameters of a module, ``[]``."""
    gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    return nn.utils.get_total_norm(gradients)


def gradient_norms(module: nn.Module) -> dict[str, float]:
    """The norm for each child module that has parameters."""
    children = {name: child for name, child in module.named_children() if any(True for _ in child.parameters())}
    return {f"grad_norm/{name}": float(gradient_norm(child)) for name, child in children.items()}


class MetricsLog:
    """Appends rows to a JSONL file, each handed to the operating system at once."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> MetricsLog:
        self.stream = self.path.open("a", encoding="utf-8")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stream.close()

    def write(self, row: Row) -> None:
        """Append one row."""
        self.stream.write(json.dumps(row, allow_nan=False) + "\n")
        self.stream.flush()

    def sync(self) -> int:
        """Wait until all rows are on the disk; returns the size of the file in bytes."""
        self.stream.flush()
        os.fsync(self.stream.fileno())
        return os.fstat(self.stream.fileno()).st_size
