"""One scalar function on every coordinate, a network of one hidden layer, in chunks that stay in the cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

CPU_CHUNK_BYTES = 1 << 19
"""Hidden units held at a time: what a core's cache holds beside them."""

ACCELERATOR_CHUNK_BYTES = 1 << 26
"""The same on an accelerator, where few large chunks are fast."""


def scalar_function(embedded: Tensor, expand_weight: Tensor, contract_weight: Tensor) -> Tensor:
    r"""``h(x)`` of every coordinate x of ``embedded``, any shape, and differentiable to any order.

    .. math:: h(x) = \sigma\Big(\sum_j c_j\, \sigma(b_j x)\Big)

    No hidden unit is kept for the backward pass: it computes them again, chunk by chunk.

    Args:
        embedded: coordinates x, ``[...]``.
        expand_weight: b, ``[U, 1]``.
        contract_weight: c, ``[1, U]``.

    Returns:
        ``[...]``.
    """
    dtype = torch.promote_types(torch.promote_types(embedded.dtype, expand_weight.dtype), contract_weight.dtype)
    arguments = (embedded.flatten(), expand_weight.flatten(), contract_weight.flatten())
    return _apply(*(each.to(dtype) for each in arguments)).view_as(embedded)


class _ScalarFunction(torch.autograd.Function):
    """:func:`scalar_function` of vectors x ``[N]``, b ``[U]`` and c ``[U]`` of one type."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, b: Tensor, c: Tensor) -> Tensor:
        ctx.save_for_backward(x, b, c)
        result = torch.empty_like(x)
        with torch.autocast(x.device.type, enabled=False):
            for part, units in _chunks(x, b):
                torch.mv(units, c, out=result[part])
        return result.sigmoid_()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, b, c = ctx.saved_tensors
        if torch.is_grad_enabled():  # a gradient of the gradient is wanted: by torch's own operations
            value = torch.sigmoid(torch.sigmoid(x.unsqueeze(1) * b) @ c)
            wanted = [each for each, needed in zip((x, b, c), ctx.needs_input_grad, strict=True) if needed]
            slopes = iter(torch.autograd.grad(value, wanted, gradient, create_graph=True))
            return tuple(next(slopes) if needed else None for needed in ctx.needs_input_grad)
        return _slopes(x, b, c, gradient)


def _slopes(x: Tensor, b: Tensor, c: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    of_x, of_b, of_c = torch.empty_like(x), torch.zeros_like(b), torch.zeros_like(c)
    with torch.autocast(x.device.type, enabled=False):
        for part, units in _chunks(x, b):
            value = torch.mv(units, c).sigmoid_()
            signal = gradient[part] * value * (1 - value)
            of_c.addmv_(units.t(), signal)
            slopes = units.sub_(units.square())
            torch.mv(slopes, b * c, out=of_x[part]).mul_(signal)
            of_b.addmv_(slopes.t(), signal * x[part])
    return of_x, of_b.mul_(c), of_c


def _chunks(x: Tensor, b: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Parts of x, and their hidden units ``[n, U]``, in memory that the next part uses again."""
    limit = CPU_CHUNK_BYTES if x.device.type == "cpu" else ACCELERATOR_CHUNK_BYTES
    rows = max(1, limit // (len(b) * x.element_size()))
    memory = x.new_empty(min(rows, len(x)), len(b))
    for start in range(0, len(x), rows):
        part = slice(start, min(start + rows, len(x)))
        yield part, torch.mul(x[part, None], b, out=memory[: part.stop - start]).sigmoid_()


_apply: Callable[..., Tensor] = _ScalarFunction.apply
