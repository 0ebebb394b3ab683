"""The estimators by name, with what proves them: a new one is a file in ``algorithms`` and a line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from estimators.algorithms.arms import ARMS, disarm
from estimators.algorithms.bounded_sparse import BoundedSparse
from estimators.algorithms.dense import Dense
from estimators.algorithms.gumbel_rao import GumbelRao
from estimators.algorithms.gumbel_softmax import GumbelSoftmax
from estimators.algorithms.reinmax import ReinMax
from estimators.algorithms.relax import Relax, rebar
from estimators.algorithms.score_function import ScoreFunction
from estimators.algorithms.sparse import entmax_marginalization, sparsemax
from estimators.algorithms.sparse_map import SparseMAP
from estimators.algorithms.straight_through import StraightThrough
from estimators.algorithms.sum_and_sample import SumAndSample
from estimators.algorithms.top_k_sparsemax import TopKSparsemax
from estimators.algorithms.unordered_set import UnorderedSet
from estimators.algorithms.vimco import VIMCO
from estimators.base import Estimator
from estimators.options import OptionError, nearest

Options = Mapping[str, Any]


class Registered(NamedTuple):
    """An estimator, and what proves it.

    Attributes:
        make: its class, or a function that makes it; its options are the typed keyword arguments.
        certified: sets of options that it is certified with, on every kind of latent that it serves, of three states or bits:
            budgets and samples below three leave something to chance.
        certified_wide: sets that need more than three states, certified on five.
        continuous: whether it draws continuous noise, whose outcomes cannot be enumerated.
    """

    make: Callable[..., Estimator]
    certified: tuple[Options, ...] = ({},)
    certified_wide: tuple[Options, ...] = ()
    continuous: bool = False


REGISTRY: dict[str, Registered] = {
    "dense": Registered(Dense),
    "sparsemax": Registered(sparsemax, certified_wide=({},)),
    "entmax": Registered(entmax_marginalization, ({}, {"learned": True})),
    "top_k_sparsemax": Registered(TopKSparsemax, ({"k": 2}, {"k": 3}), ({"k": 3}, {"k": 4})),
    "bounded_sparse": Registered(BoundedSparse, ({"budget": 2},), ({"budget": 3}, {"budget": 4, "summed": 2})),
    "sparse_map": Registered(SparseMAP, ({}, {"budget": 2})),
    "score_function": Registered(
        ScoreFunction,
        (
            {},
            {"baseline": "moving_average"},
            {"baseline": "self_critic"},
            {"baseline": "sampled_self_critic"},
            {"baseline": "nvil"},
            {"baseline": "nvil", "normalise_variance": True},
            {"baseline": "leave_one_out", "samples": 2},
        ),
        ({"baseline": "leave_one_out", "samples": 3}, {"baseline": "leave_one_out", "samples": 4}),
    ),
    "sum_and_sample": Registered(
        SumAndSample, ({}, {"baseline": "moving_average"}, {"baseline": "nvil"}), ({"summed": 3}, {"summed": 4})
    ),
    "unordered_set": Registered(
        UnorderedSet, ({"samples": 2}, {"samples": 2, "baseline": False}), ({"samples": 3}, {"samples": 4})
    ),
    "disarm": Registered(disarm),
    "arms": Registered(ARMS, ({"samples": 3},)),
    "vimco": Registered(VIMCO, ({"samples": 2}, {"samples": 2, "weights": "importance"}), ({"samples": 4},)),
    "rebar": Registered(rebar, continuous=True),
    "relax": Registered(Relax, continuous=True),
    "straight_through": Registered(StraightThrough),
    "reinmax": Registered(ReinMax),
    "gumbel_softmax": Registered(GumbelSoftmax, ({}, {"straight_through": True}), continuous=True),
    "gumbel_rao": Registered(GumbelRao, continuous=True),
}
"""Every estimator by its name."""

ESTIMATORS: dict[str, Callable[..., Estimator]] = {name: registered.make for name, registered in REGISTRY.items()}
"""What makes every estimator, by its name."""


def build(name: str, **options: Any) -> Estimator:
    """Make an estimator by its registered name.

    Raises:
        OptionError: if there is no such estimator, or if an option is out of its range.
        TypeError: if the estimator has no such option.
    """
    if name not in ESTIMATORS:
        raise OptionError(
            "name", f"there is no estimator {name!r}{nearest(name, ESTIMATORS)}; estimators: {', '.join(ESTIMATORS)}"
        )
    return ESTIMATORS[name](**options)
