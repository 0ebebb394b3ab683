"""Metrics of a run: means over steps, norms of gradients, and the file that holds them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn


class RunningMeans:
    """Means of each metric over the examples and steps since they were last asked for, summed on the device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.names: list[str] = []
        self.steps = 0
        self.total = torch.zeros(0, dtype=torch.float64, device=device)

    def add(self, metrics: dict[str, Tensor]) -> None:
        """Add one step's metrics, ``[B]`` each."""
        if not self.steps:
            self.names = list(metrics)
            self.total = torch.zeros(len(metrics), dtype=torch.float64, device=self.device)
        self.total += torch.stack([metrics[name].double() for name in self.names]).mean(1)
        self.steps += 1

    def pop(self) -> dict[str, float]:
        """The means; counting starts anew."""
        means = dict(zip(self.names, (self.total / max(self.steps, 1)).tolist(), strict=True))
        self.steps = 0
        return means

    def state(self) -> dict[str, Any]:
        """What :meth:`restore` goes back to."""
        return {"names": self.names, "steps": self.steps, "total": self.total}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to what :meth:`state` returned."""
        self.names, self.steps = state["names"], state["steps"]
        self.total = state["total"].to(self.device)


def gradient_norm(module: nn.Module) -> Tensor:
    """Euclidean norm of the gradient of all parameters of a module, ``[]``."""
    gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    return nn.utils.get_total_norm(gradients)


def gradient_norms(module: nn.Module) -> dict[str, float]:
    """The norm for each child module."""
    return {f"grad_norm/{name}": float(gradient_norm(child)) for name, child in module.named_children()}


class MetricsLog:
    """Appends rows to a JSONL file, each handed to the operating system at once."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> MetricsLog:
        self.stream = self.path.open("a", encoding="utf-8")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stream.close()

    def write(self, row: dict[str, Any]) -> None:
        """Append one row."""
        self.stream.write(json.dumps(row, allow_nan=False) + "\n")
        self.stream.flush()

    def sync(self) -> int:
        """Wait until all rows are on the disk; returns the size of the file in bytes."""
        self.stream.flush()
        os.fsync(self.stream.fileno())
        return os.fstat(self.stream.fileno()).st_size
