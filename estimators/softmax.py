"""The log-probabilities of sampled states and the entropy of a softmax, at few passes over the states.

Over many states the arithmetic is cheap, and new memory is what costs: every operation on ``[B, K]`` numbers asks for it.
Here a few rows at a time go through all of them, in memory that stays in the cache; the numbers are the same to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

NO_MASS = 1e3
"""A state or bit whose log-probability is this far below zero has no mass in double precision: e to this power is zero."""

CPU_CHUNK_BYTES = 1 << 19
"""One table of the rows that go together: with the few that are made of it, what a core's cache holds."""


def row_chunks(table: Tensor) -> Iterator[slice]:
    """Rows of ``table`` ``[B, K]`` that go together: few on a CPU, all of them on an accelerator."""
    batch, size = table.shape
    rows = max(1, CPU_CHUNK_BYTES // (size * table.element_size())) if table.device.type == "cpu" else batch
    for first in range(0, batch, rows):
        yield slice(first, min(first + rows, batch))


def entropy(probabilities: Tensor, log_probabilities: Tensor) -> Tensor:
    """``[B]``: in nats. What has no mass adds nothing, to its gradient neither."""
    return -(probabilities * log_probabilities.clamp(min=-NO_MASS)).sum(-1)


def weigh(scores: Tensor, states: Tensor, log_probabilities: Tensor, probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """The log-probabilities of ``states`` ``[B, S]`` and the entropy ``[B]``, both differentiable in the scores, to any order.

    Args:
        scores: ``[B, K]``.
        states: ``[B, S]`` int64.
        log_probabilities: ``[B, K]``, the log-softmax of the scores.
        probabilities: ``[B, K]``, their exponentials.
    """
    return _apply(scores, states, log_probabilities.detach().contiguous(), probabilities.detach().contiguous())


class _Weighed(torch.autograd.Function):
    """:func:`weigh`: one pass forward, one backward."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, states: Tensor, log_q: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(scores, states, log_q, q)
        return log_q.gather(1, states), torch.cat([entropy(q[rows], log_q[rows]) for rows in row_chunks(q)])

    @staticmethod
    def backward(ctx: Any, of_states: Tensor, of_entropy: Tensor) -> tuple[Tensor, None, None, None]:
        scores, states, log_q, q = ctx.saved_tensors
        if torch.is_grad_enabled():  # a gradient of the gradient is wanted: by torch's own operations
            log_q = scores.log_softmax(-1)
            outputs = (log_q.gather(1, states), entropy(log_q.exp(), log_q))
            (slopes,) = torch.autograd.grad(outputs, scores, (of_states, of_entropy), create_graph=True)
            return slopes, None, None, None
        slopes = torch.empty_like(q)  # contiguous, which scores need not be
        for rows in row_chunks(scores):
            arguments = (states[rows], log_q[rows], q[rows], of_states[rows], -of_entropy[rows].unsqueeze(1))
            _slopes(*arguments, out=slopes[rows])
        return slopes, None, None, None


def _slopes(states: Tensor, log_q: Tensor, q: Tensor, of_states: Tensor, of_products: Tensor, out: Tensor) -> None:
    """The backward pass in the order of autograd's own: the states', the logarithms', and the probabilities' part."""
    total = torch.zeros_like(q).scatter_add_(1, states, of_states)
    part = of_products * q
    if bool(log_q.amin() < -NO_MASS):
        part.masked_fill_(log_q < -NO_MASS, 0)
    total.add_(part)
    torch.clamp(log_q, min=-NO_MASS, out=part)
    total.add_(part.mul_(of_products).mul_(q))
    torch.ops.aten._log_softmax_backward_data.out(total, log_q, -1, q.dtype, out=out)


_apply: Callable[..., tuple[Tensor, Tensor]] = _Weighed.apply
