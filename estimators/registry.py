"""The estimators by name: a new one is a file in ``algorithms`` and a line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from estimators.algorithms.arms import ARMS, disarm
from estimators.algorithms.binary_concrete import BinaryConcrete
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

ESTIMATORS: dict[str, Callable[..., Estimator]] = {
    "dense": Dense,
    "sparsemax": sparsemax,
    "entmax": entmax_marginalization,
    "top_k_sparsemax": TopKSparsemax,
    "bounded_sparse": BoundedSparse,
    "sparse_map": SparseMAP,
    "score_function": ScoreFunction,
    "sum_and_sample": SumAndSample,
    "unordered_set": UnorderedSet,
    "disarm": disarm,
    "arms": ARMS,
    "rebar": rebar,
    "relax": Relax,
    "vimco": VIMCO,
    "straight_through": StraightThrough,
    "reinmax": ReinMax,
    "gumbel_softmax": GumbelSoftmax,
    "gumbel_rao": GumbelRao,
    "binary_concrete": BinaryConcrete,
}


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
