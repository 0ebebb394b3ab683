"""The contract between an estimator and a task: pairs are proposed, decoded in one call, and combined.

A task gives an estimator the **scores** of its latent variable and a **loss function** of a ragged batch of (example,
latent) pairs. The estimator proposes every pair that it wants decoded, the loss function runs once on all of them, and the
estimator combines the losses into something to differentiate. The number of pairs is the cost, and it is counted.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from estimators.draws import Draws, RandomDraws


class OptionError(ValueError):
    """An option's value is out of its range; ``option`` names the constructor argument at fault."""

    def __init__(self, option: str, message: str) -> None:
        super().__init__(f"{option}: {message}")
        self.option = option
        self.message = message


@dataclass(frozen=True, eq=False)
class Latents:
    """``N`` (example, latent) pairs, sorted by example; what a loss function decodes.

    Build one with :meth:`regular` (the same number of pairs for each example), :meth:`ragged` or :meth:`relaxed`.

    Attributes:
        row: ``[N]`` int64, the example of each pair, in increasing order.
        index: ``[N]`` int64, the state of each pair where it is exactly one-hot and needs no gradient; else None.
        batch_size: number of examples, ``B``.
        states: number of states of the latent, ``K``.
        dtype: floating-point type of :attr:`value`.
        enumerates: whether the pairs are all ``K`` states of every example in their order, so that look-ups are views.
    """

    row: Tensor
    index: Tensor | None
    batch_size: int
    states: int
    dtype: torch.dtype
    enumerates: bool = False
    _relaxed: Tensor | None = None
    _width: int | None = None

    @classmethod
    def regular(cls, index: Tensor, states: int, dtype: torch.dtype, enumerates: bool = False) -> Latents:
        """Pairs from ``index`` ``[B, S]``: the ``S`` states of each example."""
        batch_size, width = index.shape
        row = torch.arange(batch_size, device=index.device).repeat_interleave(width)
        return cls(row, index.reshape(-1), batch_size, states, dtype, enumerates, _width=width)

    @classmethod
    def ragged(cls, row: Tensor, index: Tensor, batch_size: int, states: int, dtype: torch.dtype) -> Latents:
        """Pairs from ``row`` ``[N]`` (increasing) and ``index`` ``[N]``."""
        return cls(row, index, batch_size, states, dtype)

    @classmethod
    def relaxed(cls, value: Tensor) -> Latents:
        """One pair for each example, with a relaxed ``value`` ``[B, K]`` that carries the gradient."""
        row = torch.arange(value.shape[0], device=value.device)
        return cls(row, None, value.shape[0], value.shape[1], value.dtype, _relaxed=value, _width=1)

    def __len__(self) -> int:
        return self.row.shape[0]

    @cached_property
    def value(self) -> Tensor:
        """``[N, K]``: the relaxed value, or the one-hot vectors of :attr:`index`, made when first asked for."""
        if self._relaxed is not None:
            return self._relaxed
        assert self.index is not None
        return nn.functional.one_hot(self.index, self.states).to(self.dtype)

    @cached_property
    def counts(self) -> Tensor:
        """``[B]`` int64: pairs of each example."""
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


LossFunction = Callable[[Latents], Tensor]
"""The losses ``[N]`` of ``N`` pairs, unreduced, without any term of q."""


@dataclass(frozen=True, eq=False)
class Proposal:
    """The pairs that an estimator wants decoded, and what it must remember to combine their losses.

    Attributes:
        latents: the pairs; ``len(proposal)`` is the cost.
        weights: ``[N]``, the weight of each pair in the expectation. They sum to one over the pairs of an example, and carry
            a gradient where the estimator differentiates them.
        entropy: ``[B]``, entropy of q in nats, differentiable.
        log_probability: ``[N]``, log q of each pair, differentiable; None where the estimator does not need it.
        context: what the task passed for a learned baseline, or None.
    """

    latents: Latents
    weights: Tensor
    entropy: Tensor
    log_probability: Tensor | None = None
    context: Tensor | None = None

    def __len__(self) -> int:
        return len(self.latents)


class Estimate(NamedTuple):
    """What an estimator returns.

    Attributes:
        surrogate: ``[B]``, differentiate this; its value means nothing, so never log it as the loss.
        value: ``[B]``, detached estimate of E_q[loss].
        entropy: ``[B]``, differentiable entropy of q in nats.
        decoder_calls: ``[B]`` int64, pairs decoded for each example, counted from the proposal.
        weights: ``[N]``, detached weight of each pair in the expectation.
        auxiliary: ``[]``, loss of the estimator's own parameters, zero where it has none.
    """

    surrogate: Tensor
    value: Tensor
    entropy: Tensor
    decoder_calls: Tensor
    weights: Tensor
    auxiliary: Tensor

    @classmethod
    def of(cls, proposal: Proposal, surrogate: Tensor, value: Tensor, auxiliary: Tensor | None = None) -> Estimate:
        """Fill in what follows from the proposal."""
        return cls(
            surrogate=surrogate,
            value=value.detach(),
            entropy=proposal.entropy,
            decoder_calls=proposal.latents.counts,
            weights=proposal.weights.detach(),
            auxiliary=surrogate.new_zeros(()) if auxiliary is None else auxiliary,
        )


def as_scores(scores: Tensor) -> Tensor:
    """Scores in at least single precision: the mathematics of q is never done in half precision.

    Raises:
        FloatingPointError: if a row of scores has no finite maximum (NaN, +inf, or every state masked).
        ValueError: if the scores are not a floating-point matrix ``[B, K]`` with at least one state.
    """
    if scores.ndim != 2 or scores.shape[1] == 0 or not scores.is_floating_point():
        raise ValueError(f"scores must be floating point [B, K], got {scores.dtype} {list(scores.shape)}")
    finite = torch.isfinite(scores.detach().amax(1))
    if not finite.all():
        row = int(finite.logical_not().nonzero()[0])
        raise FloatingPointError(f"the scores of example {row} have no finite maximum: {scores[row].tolist()[:8]}")
    return scores.float() if scores.dtype in (torch.bfloat16, torch.float16) else scores


class Estimator(nn.Module, ABC):
    """A gradient estimator of ``E_{z ~ q(z | x)}[loss(x, z)]``.

    Subclasses are final and implement :meth:`probabilities`, :meth:`propose` and :meth:`combine`. Their options are the typed
    keyword arguments of their constructor. Everything that changes during training is a registered buffer or parameter.
    """

    unbiased: ClassVar[bool]
    """Whether the expected gradient is the exact one, for the parameters of q and of the loss. Proved by tests."""

    samples_states: ClassVar[bool] = False
    """Whether the pairs in the expectation are independent exact samples of q, as the messages of a game that is played are."""

    @abstractmethod
    def probabilities(self, scores: Tensor) -> Tensor:
        """``[B, K]``: the distribution q that these scores stand for."""

    @abstractmethod
    def propose(self, scores: Tensor, draws: Draws, context: Tensor | None = None) -> Proposal:
        """Choose the pairs to decode from ``scores`` ``[B, K]``; all randomness comes from ``draws``."""

    @abstractmethod
    def combine(self, proposal: Proposal, losses: Tensor) -> Estimate:
        """Combine the ``losses`` ``[N]`` of the proposal's pairs."""

    def forward(
        self,
        scores: Tensor,
        loss_function: LossFunction,
        context: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Estimate:
        """Propose, call the loss function once, combine.

        Args:
            scores: ``[B, K]``, unnormalised; ``-inf`` masks a state.
            loss_function: maps ``N`` pairs to ``[N]`` losses.
            context: features that a learned baseline may read, ``[B, ...]``.
            generator: source of randomness, on the device of the scores; None is torch's default generator.

        Raises:
            FloatingPointError: if a row of scores has no finite maximum (NaN, +inf, or every state masked).
            ValueError: if the scores or the losses have the wrong shape.
        """
        proposal = self.propose(scores, RandomDraws(generator), context)
        losses = loss_function(proposal.latents)
        if losses.shape != (len(proposal),):
            raise ValueError(f"the loss function must return [{len(proposal)}] losses, got {list(losses.shape)}")
        return self.combine(proposal, losses.to(proposal.weights.dtype))
