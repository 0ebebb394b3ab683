"""Layers that read a latent variable, whatever estimator proposed it, at the lowest cost its form allows."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from estimators.pairs import Latents


class LatentLinear(nn.Module):
    """A linear layer whose input is a latent: a table look-up where it is one-hot, a product where it is relaxed.

    Args:
        states: number of states of the latent, K.
        features: size of the output, F.
        bias: add a learned bias. One-hot states need none: each has a row of its own.

    The weight is ``[K, F]``, one row a state, initialised as ``torch.nn.Linear`` does with K inputs.
    """

    def __init__(self, states: int, features: int, bias: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(states, features))
        bound = states**-0.5
        nn.init.uniform_(self.weight, -bound, bound)
        self.bias = nn.Parameter(torch.empty(features).uniform_(-bound, bound)) if bias else None

    def forward(self, latents: Latents) -> Tensor:
        """``[N, F]`` of ``N`` pairs."""
        if latents.index is None:
            return nn.functional.linear(latents.value.to(self.weight.dtype), self.weight.t(), self.bias)
        rows = nn.functional.embedding(latents.index, self.weight)
        return rows if self.bias is None else rows + self.bias


def dot_products(table: LatentLinear, latents: Latents, candidates: Tensor) -> Tensor:
    """Dot products of each pair's embedded latent with its example's candidates, by whichever product is cheaper.

    With few pairs, the pairs' rows of the table are padded to ``[B, S, F]`` and multiplied with their example's candidates;
    with many, all candidates are multiplied with the whole table and the pairs are picked from the result.

    Args:
        table: embeds the latent, ``[K, F]``.
        latents: N pairs.
        candidates: ``[B, C, F]``, embedded once for each example.

    Returns:
        ``[N, C]``.
    """
    if latents.index is None or latents.width * 3 < latents.size:
        embedded = latents.pad(table(latents))
        return latents.unpad(embedded @ candidates.transpose(1, 2))
    weight = table.weight if table.bias is None else table.weight + table.bias
    products = (candidates @ weight.t()).transpose(1, 2).reshape(-1, candidates.shape[1])
    if latents.enumerates:
        return products
    return products.index_select(0, latents.row * latents.size + latents.index)


def start_near_zero(layer: nn.Module, scale: float = 0.01) -> None:
    """Scale down the parameters of the layer that makes the scores, so that q starts nearly uniform.

    A sparse mapping of larger scores gives most states no mass from the start, hence no gradient: they never come into use.
    """
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.mul_(scale)
