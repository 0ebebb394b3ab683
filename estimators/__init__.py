"""Gradient estimators for models with a discrete latent variable.

>>> estimator = estimators.build("sparsemax")
>>> estimate = estimator(scores, loss_function)
>>> estimate.surrogate.mean().backward()
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any

from estimators.base import Estimate, Estimator, Latents, LossFunction, OptionError, Proposal, as_scores
from estimators.categorical import Categorical
from estimators.dense import Dense
from estimators.draws import Draws, RandomDraws, derived_seed, enumerate_outcomes
from estimators.gumbel_softmax import GumbelSoftmax
from estimators.layers import LatentLinear, dot_products
from estimators.score_function import ScoreFunction
from estimators.sparse import SparseMarginalization, entmax_marginalization, sparsemax

ESTIMATORS: dict[str, Callable[..., Estimator]] = {
    "score_function": ScoreFunction,
    "gumbel_softmax": GumbelSoftmax,
    "dense": Dense,
    "sparsemax": sparsemax,
    "entmax": entmax_marginalization,
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
    "ESTIMATORS",
    "Categorical",
    "Dense",
    "Draws",
    "Estimate",
    "Estimator",
    "GumbelSoftmax",
    "LatentLinear",
    "Latents",
    "LossFunction",
    "OptionError",
    "Proposal",
    "RandomDraws",
    "ScoreFunction",
    "SparseMarginalization",
    "as_scores",
    "build",
    "derived_seed",
    "dot_products",
    "entmax_marginalization",
    "enumerate_outcomes",
    "sparsemax",
]
