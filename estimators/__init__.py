"""Gradient estimators for models with a discrete latent variable.

>>> estimator = estimators.build("sparsemax")
>>> estimate = estimator(scores, loss_function)
>>> estimate.surrogate.mean().backward()
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any

from estimators.arms import ARMS, disarm
from estimators.base import Estimate, Estimator, OptionError, Proposal, expected_loss
from estimators.binary_concrete import BinaryConcrete
from estimators.bounded_sparse import BoundedSparse
from estimators.dense import Dense
from estimators.draws import Draws, RandomDraws, derived_seed, enumerate_outcomes
from estimators.gumbel_rao import GumbelRao
from estimators.gumbel_softmax import GumbelSoftmax
from estimators.latents import Latents, LossFunction, Relaxation
from estimators.layers import LatentLinear, dot_products, start_near_zero
from estimators.mappings import fenchel_young_loss
from estimators.reinmax import ReinMax
from estimators.relax import Relax, rebar
from estimators.score_function import ScoreFunction
from estimators.spaces import SPACES, BitVector, Categorical, Space, as_scores
from estimators.sparse import SparseMarginalization, entmax_marginalization, sparsemax
from estimators.sparse_map import SparseMAP
from estimators.straight_through import StraightThrough
from estimators.sum_and_sample import SumAndSample
from estimators.top_k_sparsemax import TopKSparsemax
from estimators.unordered_set import UnorderedSet
from estimators.vimco import VIMCO

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
        close = difflib.get_close_matches(name, ESTIMATORS, 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise OptionError("name", f"there is no estimator {name!r}{hint}; estimators: {', '.join(ESTIMATORS)}")
    return ESTIMATORS[name](**options)


__all__ = [
    "ARMS",
    "ESTIMATORS",
    "SPACES",
    "VIMCO",
    "BinaryConcrete",
    "BitVector",
    "BoundedSparse",
    "Categorical",
    "Dense",
    "Draws",
    "Estimate",
    "Estimator",
    "GumbelRao",
    "GumbelSoftmax",
    "LatentLinear",
    "Latents",
    "LossFunction",
    "OptionError",
    "Proposal",
    "RandomDraws",
    "ReinMax",
    "Relax",
    "Relaxation",
    "ScoreFunction",
    "Space",
    "SparseMAP",
    "SparseMarginalization",
    "StraightThrough",
    "SumAndSample",
    "TopKSparsemax",
    "UnorderedSet",
    "as_scores",
    "build",
    "derived_seed",
    "disarm",
    "dot_products",
    "entmax_marginalization",
    "enumerate_outcomes",
    "expected_loss",
    "fenchel_young_loss",
    "rebar",
    "sparsemax",
    "start_near_zero",
]
