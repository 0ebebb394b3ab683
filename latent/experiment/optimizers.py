"""Optimisers by name: a new one is a function here and a line below.

An optimiser is made from groups of parameters, those of the task and those of the estimator, and the learning rate; all else
are its options. Weight decay, where it has one, is of the task's parameters alone: the other group has a weight of its own,
zero. Other distributions add theirs through entry points of the group ``discrete_latent.optimizers``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import nn, optim

from estimators import OptionError
from estimators.parts import Registry

Groups = list[dict[str, Any]]
"""Parameters, under ``params``, each list with what is other for it than the options say, as ``torch.optim`` takes them."""


def groups(task: Iterable[nn.Parameter], estimator: Iterable[nn.Parameter]) -> Groups:
    """The groups that an optimiser is made from."""
    return [{"params": list(task)}, {"params": list(estimator), "weight_decay": 0.0}]


def _check_adam(beta1: float, beta2: float, epsilon: float, weight_decay: float) -> None:
    for option, value in (("beta1", beta1), ("beta2", beta2)):
        if not 0 <= value < 1:
            raise OptionError(option, f"must be at least 0 and below 1, got {value}")
    _check_not_negative(epsilon=epsilon, weight_decay=weight_decay)


def _check_not_negative(**options: float) -> None:
    for option, value in options.items():
        if value < 0:
            raise OptionError(option, f"must not be negative, got {value}")


def adam(
    parameters: Groups,
    learning_rate: float,
    *,
    weight_decay: float = 0.0,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
) -> optim.Optimizer:
    """Adam (Kingma and Ba 2015, https://arxiv.org/abs/1412.6980).

    Args:
        parameters: the groups.
        learning_rate: that of a schedule's factor 1.
        weight_decay: weight of the L2 penalty on the task's parameters, in the gradient that Adam scales.
        beta1: decay of the mean of the gradient.
        beta2: decay of the mean of its square.
        epsilon: added to the root of that mean.

    Raises:
        OptionError: if an option is out of its range.
    """
    _check_adam(beta1, beta2, epsilon, weight_decay)
    betas = beta1, beta2
    return optim.Adam(parameters, lr=learning_rate, betas=betas, eps=epsilon, weight_decay=weight_decay, fused=True)


def adamw(
    parameters: Groups,
    learning_rate: float,
    *,
    weight_decay: float = 0.01,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
) -> optim.Optimizer:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101).

    Args:
        parameters: the groups.
        learning_rate: that of a schedule's factor 1.
        weight_decay: share of the task's parameters that a step takes away, over the learning rate.
        beta1: decay of the mean of the gradient.
        beta2: decay of the mean of its square.
        epsilon: added to the root of that mean.

    Raises:
        OptionError: if an option is out of its range.
    """
    _check_adam(beta1, beta2, epsilon, weight_decay)
    betas = beta1, beta2
    return optim.AdamW(parameters, lr=learning_rate, betas=betas, eps=epsilon, weight_decay=weight_decay, fused=True)


def sgd(
    parameters: Groups, learning_rate: float, *, momentum: float = 0.0, nesterov: bool = False, weight_decay: float = 0.0
) -> optim.Optimizer:
    """Stochastic gradient descent, with or without momentum.

    Args:
        parameters: the groups.
        learning_rate: that of a schedule's factor 1.
        momentum: decay of the sum of past gradients that a step goes along.
        nesterov: look ahead along that sum (Sutskever et al. 2013, https://proceedings.mlr.press/v28/sutskever13.html).
        weight_decay: weight of the L2 penalty on the task's parameters.

    Raises:
        OptionError: if an option is out of its range.
    """
    _check_not_negative(momentum=momentum, weight_decay=weight_decay)
    if nesterov and not momentum:
        raise OptionError("nesterov", "needs a momentum above 0")
    return optim.SGD(parameters, lr=learning_rate, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay, fused=True)


OPTIMIZERS = Registry[Callable[..., optim.Optimizer]](
    "optimiser", {"adam": adam, "adamw": adamw, "sgd": sgd}, makes=optim.Optimizer, group="discrete_latent.optimizers"
)
