"""The contract between an estimator and a task: pairs are proposed, decoded in one call, and combined.

A task gives an estimator a **space**, which is a latent variable with q over its states, and a **loss function** of a ragged
batch of (example, state) pairs. The estimator proposes every pair that it wants decoded, the loss function runs once on all of
them, and the estimator combines the losses into something to differentiate. The number of pairs is the cost, and it is counted.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from estimators.draws import Draws, RandomDraws
from estimators.mappings import shannon_entropy
from estimators.options import OptionError
from estimators.pairs import LossFunction, Pairs
from estimators.spaces import Capability, Categorical, Space


@dataclass(frozen=True, eq=False)
class Proposal:
    """The pairs that an estimator wants decoded, and what it must remember to combine their losses.

    Attributes:
        pairs: what to decode; ``len(proposal)`` is the cost.
        weights: ``[N]``, the weight of each pair in the expectation. Their sum over the pairs of an example is one, or is one
            in expectation where the pairs are a sample weighted by its inverse inclusion probabilities. They carry a
            gradient where the estimator differentiates them.
        entropy: ``[B]``, entropy of q in nats, differentiable.
        log_probability: ``[N]``, log q of each pair, differentiable; None where the estimator does not need it.
        context: what the task passed for a learned baseline, or None.
        memory: other tensors that :meth:`Estimator.combine` needs.
        metrics: ``[B]`` each, detached: what is worth logging of this proposal, by name.
    """

    pairs: Pairs
    weights: Tensor
    entropy: Tensor
    log_probability: Tensor | None = None
    context: Tensor | None = None
    memory: Mapping[str, Tensor] = field(default_factory=dict)
    metrics: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.pairs)


class Estimate(NamedTuple):
    """What an estimator returns.

    Attributes:
        surrogate: ``[B]``, differentiate this; its value means nothing, so never log it as the loss.
        value: ``[B]``, detached estimate of E_q[loss], or of the estimator's own objective where that is another one.
        entropy: ``[B]``, differentiable entropy of q in nats.
        decoder_calls: ``[B]`` int64, pairs decoded for each example, counted from the proposal.
        weights: ``[N]``, detached weight of each pair in the expectation.
        auxiliary: ``[]``, loss of the estimator's own parameters, zero where it has none.
        metrics: ``[B]`` each, detached: what the estimator has to report besides.
    """

    surrogate: Tensor
    value: Tensor
    entropy: Tensor
    decoder_calls: Tensor
    weights: Tensor
    auxiliary: Tensor
    metrics: Mapping[str, Tensor]

    @classmethod
    def of(cls, proposal: Proposal, surrogate: Tensor, value: Tensor, auxiliary: Tensor | None = None) -> Estimate:
        """Fill in what follows from the proposal."""
        return cls(
            surrogate=surrogate,
            value=value.detach(),
            entropy=proposal.entropy,
            decoder_calls=proposal.pairs.counts,
            weights=proposal.weights.detach(),
            auxiliary=surrogate.new_zeros(()) if auxiliary is None else auxiliary,
            metrics=proposal.metrics,
        )

    @classmethod
    def marginal(cls, proposal: Proposal, losses: Tensor) -> Estimate:
        """The exact expectation over the pairs, whose weights carry the gradient of q."""
        value = proposal.pairs.sum(proposal.weights * losses)
        return cls.of(proposal, surrogate=value, value=value)


DETACHED = "this estimator differentiates the losses in the latent: they must not be detached from it"
"""What is said where a relaxed latent's losses carry no gradient."""

Objective = Callable[[Tensor, Tensor], Tensor]
"""What an estimator estimates the gradient of, ``[B]``, from q ``[B, M]`` and the losses ``[B, M]`` of all M states."""


def expected_loss(probabilities: Tensor, losses: Tensor) -> Tensor:
    """``E_q[loss] = sum_m q_m loss_m``, ``[B]``."""
    return (probabilities * losses).sum(1)


class Estimator(nn.Module, ABC):
    """A gradient estimator of ``E_{z ~ q(z | x)}[loss(x, z)]``.

    Subclasses are final and implement :meth:`propose` and :meth:`combine`, and :meth:`probabilities` where their q is not the
    space's own. Their options are the typed keyword arguments of their constructor. Everything that changes during
    training is a registered buffer or parameter.

    Attributes:
        unbiased: whether the expected gradient is the exact one, for the parameters of q and of the loss. Proved by tests.
        samples_states: whether the pairs in the expectation are independent exact samples of q, as the messages of a game
            that is played are.
        marginalizes: whether the pairs of a proposal are the whole support of q, weighted by q itself.
        sparse: whether q is a sparse distribution that the estimator makes of the scores; else it is the space's own.
        relaxes: whether the latents that are decoded are relaxed ones, inside the simplex or the cube, with a density.
        holds_entropy: whether the objective is a bound on the evidence that already holds the entropy of q.
        regulariser: the entropy H ``[..., K] -> [...]`` with ``q = argmax_p p . s + H(p)`` for the scores s of all states:
            Shannon's for softmax, Tsallis' for sparse mappings. It decides the Fenchel-Young loss that fits q.
        uses: what the estimator asks of a space: it serves every latent that can do all of it.
        objective: the expectation whose gradient is estimated; ``expected_loss``, unless the estimator says otherwise.
    """

    unbiased: bool
    samples_states: bool = False
    marginalizes: bool = False
    sparse: bool = False
    relaxes: bool = False
    holds_entropy: bool = False
    regulariser: Callable[[Tensor], Tensor] = staticmethod(shannon_entropy)
    uses: frozenset[Capability]
    objective: Objective = staticmethod(expected_loss)

    def probabilities(self, space: Space) -> Tensor:
        """``[B, M]``, differentiable: the distribution q that this estimator makes of a space, over all states in order.

        Raises:
            ValueError: if the space has too many states to enumerate.
        """
        return space.probabilities

    @abstractmethod
    def propose(self, space: Space, draws: Draws, context: Tensor | None = None) -> Proposal:
        """Choose the pairs to decode; all randomness comes from ``draws``."""

    @abstractmethod
    def combine(self, proposal: Proposal, losses: Tensor) -> Estimate:
        """Combine the ``losses`` ``[N]`` of the proposal's pairs."""

    def forward(
        self,
        space: Space | Tensor,
        loss_function: LossFunction,
        context: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Estimate:
        """Propose, call the loss function once, combine.

        Args:
            space: the latent variable; or the scores ``[B, K]`` of a categorical one, unnormalised, where ``-inf`` masks.
            loss_function: maps ``N`` pairs to ``[N]`` losses.
            context: features that a learned baseline may read, ``[B, ...]``.
            generator: source of randomness, on the device of the space; None is torch's default generator.

        Raises:
            FloatingPointError: if a row of scores defines no distribution (NaN, +inf, or every state masked).
            Incapable: if the space cannot do what the estimator asks of it; :func:`check_fit` says so beforehand.
            ValueError: if the scores or the losses have the wrong shape, or if losses that must be differentiable are not.
        """
        space = Categorical(space) if isinstance(space, Tensor) else space
        proposal = self.propose(space, RandomDraws(generator), context)
        losses = loss_function(proposal.pairs)
        if losses.shape != (len(proposal),):
            raise ValueError(f"the loss function must return [{len(proposal)}] losses, got {list(losses.shape)}")
        if proposal.pairs.differentiable and torch.is_grad_enabled() and not losses.requires_grad:
            raise ValueError(DETACHED)
        return self.combine(proposal, losses.to(proposal.weights.dtype))


def misfit(estimator: Estimator, space: Space) -> str:
    """Why an estimator cannot serve a latent variable: the first thing that the space cannot do; nothing, if it can."""
    reasons = (reason for capability in sorted(estimator.uses) if (reason := space.lacks(capability)))
    return next(reasons, "")


def check_fit(estimator: Estimator, space: Space, name: str = "") -> None:
    """Refuse an estimator that asks for what a space cannot do.

    Raises:
        OptionError: naming what is missing.
    """
    if reason := misfit(estimator, space):
        raise OptionError("name", f"{name or type(estimator).__name__} does not fit: {reason}")
