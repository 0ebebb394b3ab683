"""Pictures of images side by side."""

from __future__ import annotations

import torch
from torch import Tensor

GAP = 2
"""Pixels between two images."""
SMALLEST = 28
"""Images with shorter sides are enlarged by a whole factor."""


def grid(images: Tensor, columns: int) -> Tensor:
    """Images ``[M, H, W]`` in [0, 1], row by row, as one ``[H', W']`` uint8 on a grey ground."""
    factor = max(1, -(-SMALLEST // min(images.shape[1:])))
    images = images.detach().repeat_interleave(factor, 1).repeat_interleave(factor, 2)
    number, height, width = images.shape
    rows = -(-number // columns)
    ground = images.new_full((rows * columns, height + GAP, width + GAP), 0.5)
    ground[:number, :height, :width] = images
    whole = ground.view(rows, columns, height + GAP, width + GAP).permute(0, 2, 1, 3).flatten(0, 1).flatten(1)
    return (whole[:-GAP, :-GAP] * 255).round().clamp(0, 255).to(torch.uint8).cpu()
