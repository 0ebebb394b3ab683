"""A ragged batch of (example, state) pairs: what a loss function decodes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn


def _rows(states: Tensor, width: int) -> Tensor:
    """The example of each of ``width`` states of every example."""
    row = torch.arange(len(states), device=states.device)
    return row if width == 1 else row.repeat_interleave(width)


@dataclass(frozen=True, eq=False, kw_only=True)
class Pairs(ABC):
    """``N`` (example, state) pairs, sorted by example; subclasses say what the states are.

    Attributes:
        row: ``[N]`` int64, the example of each pair, in increasing order.
        batch_size: number of examples, ``B``.
    """

    row: Tensor
    batch_size: int
    _width: int | None = None

    def __len__(self) -> int:
        return self.row.shape[0]

    @property
    def differentiable(self) -> bool:
        """Whether the states carry a gradient, so that losses must not be detached from them."""
        return False

    @abstractmethod
    def take(self, places: Tensor) -> Pairs:
        """One pair for each example: those at ``places`` ``[B]``, one of each example's own."""

    @cached_property
    def counts(self) -> Tensor:
        """``[B]`` int64: pairs of each example."""
        if self._width is not None:
            return torch.full((self.batch_size,), self._width, dtype=torch.int64, device=self.row.device)
        return torch.bincount(self.row, minlength=self.batch_size)

    @cached_property
    def width(self) -> int:
        """``S``: the most pairs that any one example has."""
        return self._width if self._width is not None else int(self.counts.max())

    @cached_property
    def _slot(self) -> Tensor:
        """``[N]``: where each pair stands in the flattened padded batch."""
        first = self.counts.cumsum(0) - self.counts
        place = torch.arange(len(self), device=self.row.device) - first.index_select(0, self.row)
        return self.row * self.width + place

    @property
    def _full(self) -> bool:
        return len(self) == self.batch_size * self.width

    def gather(self, x: Tensor) -> Tensor:
        """``x[row]``: ``[B, ...]`` of the examples to ``[N, ...]`` of the pairs."""
        return x if self._full and self.width == 1 else x.index_select(0, self.row)

    def pad(self, x: Tensor) -> Tensor:
        """``[N, ...]`` of the pairs to ``[B, S, ...]``, with zeros where an example has fewer than ``S`` pairs."""
        shape = (self.batch_size, self.width, *x.shape[1:])
        if self._full:
            return x.reshape(shape)
        padded = x.new_zeros(self.batch_size * self.width, *x.shape[1:])
        return padded.index_copy(0, self._slot, x).reshape(shape)

    def unpad(self, x: Tensor) -> Tensor:
        """``[B, S, ...]`` back to ``[N, ...]``: the inverse of :meth:`pad`."""
        flat = x.flatten(0, 1)
        return flat if self._full else flat.index_select(0, self._slot)

    def sum(self, x: Tensor) -> Tensor:
        """``[N]`` of the pairs to ``[B]``: the sum over the pairs of each example, in a fixed order."""
        return self.pad(x).sum(1)


class Relaxation(NamedTuple):
    """Where relaxed latents come from, which is what their density is written in.

    Attributes:
        logits: ``[N, V]``, noisy scores over the temperature: the latent is their softmax, or the sigmoid of each.
        temperature: ``[]``.
    """

    logits: Tensor
    temperature: Tensor


@dataclass(frozen=True, eq=False, kw_only=True)
class Latents(Pairs):
    """Pairs whose states are vectors: one-hot, bits, or relaxed.

    A space builds them. By hand, use :meth:`regular` (the same number of one-hot states for each example), :meth:`ragged`, or,
    from vectors (bits, relaxed latents), :meth:`regular_vectors`, :meth:`ragged_vectors` or :meth:`relaxed`.

    Attributes:
        index: ``[N]`` int64, the state of each pair where it is exactly one-hot and needs no gradient; else None.
        size: length of :attr:`value`: K of one categorical latent, N K of several, D of bits.
        dtype: floating-point type of :attr:`value`.
        relaxation: of relaxed latents, their noisy scores and temperature; else None.
        enumerates: whether the pairs are all ``K`` states of every example in their order, so that look-ups are views.
    """

    index: Tensor | None = None
    size: int
    dtype: torch.dtype
    enumerates: bool = False
    relaxation: Relaxation | None = None
    _vectors: Tensor | None = None

    @classmethod
    def regular(cls, index: Tensor, size: int, dtype: torch.dtype, enumerates: bool = False) -> Latents:
        """Pairs from ``index`` ``[B, S]``: the ``S`` one-hot states of each example."""
        batch_size, width = index.shape
        return cls(
            row=_rows(index, width),
            batch_size=batch_size,
            index=index.reshape(-1),
            size=size,
            dtype=dtype,
            enumerates=enumerates,
            _width=width,
        )

    @classmethod
    def ragged(cls, row: Tensor, index: Tensor, batch_size: int, size: int, dtype: torch.dtype) -> Latents:
        """Pairs from ``row`` ``[N]`` (increasing) and ``index`` ``[N]``."""
        return cls(row=row, batch_size=batch_size, index=index, size=size, dtype=dtype)

    @classmethod
    def regular_vectors(cls, value: Tensor, relaxation: Relaxation | None = None) -> Latents:
        """Pairs from ``value`` ``[B, S, V]``: ``S`` vectors for each example, which may carry a gradient."""
        batch_size, width, size = value.shape
        return cls(
            row=_rows(value, width),
            batch_size=batch_size,
            size=size,
            dtype=value.dtype,
            relaxation=relaxation,
            _vectors=value.reshape(-1, size),
            _width=width,
        )

    @classmethod
    def ragged_vectors(cls, row: Tensor, value: Tensor, batch_size: int) -> Latents:
        """Pairs from ``row`` ``[N]`` (increasing) and ``value`` ``[N, V]``."""
        return cls(row=row, batch_size=batch_size, size=value.shape[1], dtype=value.dtype, _vectors=value)

    @classmethod
    def relaxed(cls, value: Tensor, relaxation: Relaxation | None = None) -> Latents:
        """One pair for each example, with a relaxed ``value`` ``[B, V]`` that carries the gradient."""
        return cls.regular_vectors(value.unsqueeze(1), relaxation)

    @cached_property
    def value(self) -> Tensor:
        """``[N, V]``: the vectors, or the one-hot vectors of :attr:`index`, made when first asked for."""
        if self._vectors is not None:
            return self._vectors
        assert self.index is not None
        return nn.functional.one_hot(self.index, self.size).to(self.dtype)

    def take(self, places: Tensor) -> Latents:
        if self.index is not None:
            return self.regular(self.index[places].unsqueeze(1), self.size, self.dtype)
        return self.regular_vectors(self.value[places].unsqueeze(1))

    @property
    def differentiable(self) -> bool:
        return self._vectors is not None and self._vectors.requires_grad


LossFunction = Callable[..., Tensor]
"""The losses ``[N]`` of ``N`` pairs of the space's kind, unreduced, without any term of q."""
