"""The gradient probe: how far an estimator's gradient is from the exact one, measured in a run that does not notice.

A probe goes through a task in the place of the estimator, so that every task can be probed and none knows of it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from estimators import Categorical, Estimate, Estimator, LossFunction, Space

MOST_STATES = 4096
"""States of a latent whose exact gradient is computed."""


class Probe:
    r"""Stands in for an estimator in a task, and compares its gradients in the scores with the exact one.

    With :math:`g^*` the exact gradient of the estimator's own objective, summed over the examples, :math:`g_r` the estimate of
    draw r of R, and :math:`\bar g` their mean:

    .. math:: \text{variance} = \frac{\sum_r |g_r - \bar g|^2}{(R - 1)\, |g^*|^2}, \qquad
        \text{bias}^2 = \max\Big(0, \frac{|\bar g - g^*|^2}{|g^*|^2} - \frac{\text{variance}}{R}\Big), \qquad
        \text{cosine} = \frac{1}{R} \sum_r \cos(g_r, g^*)

    The bias is freed of what chance adds to its square; it is known to about ``sqrt(variance / R)``. A draw without a gradient
    has the cosine 0. A task with several latents calls the estimator several times: their gradients are then one vector.

    Args:
        estimator: what is measured: a copy of it in training mode, so that the original stays as it is.
        draws: independent estimates, R, at least 2.
    """

    def __init__(self, estimator: Estimator, draws: int) -> None:
        self.estimator = copy.deepcopy(estimator).train()
        self.draws = draws
        self.exact: list[Tensor] = []
        self.estimates: list[Tensor] = []

    def __getattr__(self, name: str) -> Any:
        """All else that a task may ask of an estimator is the estimator's."""
        return getattr(self.estimator, name)

    def __call__(
        self,
        space: Space | Tensor,
        loss_function: LossFunction,
        context: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Estimate:
        """Measure, and return the estimate of the last draw.

        The loss function runs for all states and then for each draw; its last call is that of the estimate returned.

        Raises:
            ValueError: if the exact gradient cannot be computed; the message says why.
        """
        with torch.enable_grad():
            space = Categorical(space) if isinstance(space, Tensor) else space
            space = space.rebuilt(space.leaf.detach().requires_grad_())
            exact = self._exact(space, loss_function, generator)
            gradients = []
            for _ in range(self.draws):
                fresh = copy.deepcopy(self.estimator)  # a draw may change baselines and schedules
                again = space.rebuilt(space.leaf)  # with a graph of its own
                estimate: Estimate = fresh(again, loss_function, context=context, generator=generator)
                gradients.append(_gradient(estimate.surrogate, space.leaf))
        self.exact.append(exact)
        self.estimates.append(torch.stack(gradients))
        return estimate

    def _exact(self, space: Space, loss_function: LossFunction, generator: torch.Generator | None) -> Tensor:
        """The exact gradient, ``[B * V]``."""
        if space.states > MOST_STATES:
            raise ValueError(f"the latent has more than {MOST_STATES:,} states")
        q = self.estimator.probabilities(space)
        if not q.requires_grad:
            raise ValueError("the estimator's probabilities carry no gradient")
        before = _random_state(space.device, generator)
        with torch.no_grad():
            losses = loss_function(space.enumerate())
        if not torch.equal(before, _random_state(space.device, generator)):
            raise ValueError("the losses are random, and their expectation is not known")
        return _gradient(self.estimator.objective(q, losses.to(q.dtype).view_as(q)), space.leaf)

    def metrics(self) -> dict[str, float]:
        """Variance, cosine and bias by name; none where the exact gradient is zero, or no latent was met.

        Raises:
            FloatingPointError: if one of them is not finite.
        """
        if not self.exact:
            return {}
        exact, estimates = torch.cat(self.exact), torch.cat(self.estimates, 1)
        length = exact.norm()
        if length == 0:
            return {}
        exact, estimates = exact / length, estimates / length
        variance = (estimates - estimates[0]).var(0).sum()  # exactly zero where every draw is the same
        lengths = estimates.norm(dim=1)
        cosine = (estimates @ exact / lengths.where(lengths > 0, 1)).mean()
        bias = ((estimates.mean(0) - exact).square().sum() - variance / self.draws).clamp(min=0).sqrt()
        found = {"variance": float(variance), "cosine": float(cosine), "bias": float(bias)}
        if not all(map(math.isfinite, found.values())):
            raise FloatingPointError(f"the gradients are not finite: {found}")
        return found


def _gradient(objective: Tensor, scores: Tensor) -> Tensor:
    """The gradient of the sum over the examples, ``[B * V]``, in float64: its square must not underflow."""
    if not objective.requires_grad:
        return torch.zeros_like(scores, dtype=torch.float64).flatten()
    (gradient,) = torch.autograd.grad(objective.sum(), scores, materialize_grads=True)
    return gradient.double().flatten()


def _random_state(device: torch.device, generator: torch.Generator | None) -> Tensor:
    """Where every generator stands that a loss function can draw from."""
    states = [torch.get_rng_state()]
    states += [] if generator is None else [generator.get_state()]
    states += [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
    return torch.cat(states)


@contextmanager
def unnoticed(module: nn.Module, device: torch.device, seed: int) -> Iterator[None]:
    """Evaluation mode, no gradients, and torch's default generators at ``seed``; everything is as before afterwards.

    In evaluation mode neither dropout nor the other pairs of a batch change a loss: otherwise there is no exact gradient.
    Buffers that are no part of the state are constants, such as a data set, and may be too large to copy.
    """
    modes = [(each, each.training) for each in module.modules()]
    kept = module.state_dict().keys()
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers() if name in kept}
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else [], device_type="cuda"), torch.no_grad():
            torch.manual_seed(seed)
            module.eval()
            yield
    finally:
        for each, mode in modes:
            each.training = mode
        for name, before in buffers.items():
            module.get_buffer(name).copy_(before)
