"""Gradient estimators for models with a discrete latent variable.

>>> estimator = estimators.build("sparsemax")
>>> estimate = estimator(scores, loss_function)
>>> estimate.surrogate.mean().backward()
"""

from __future__ import annotations

from estimators.algorithms.arms import ARMS, disarm
from estimators.algorithms.bounded_sparse import BoundedSparse
from estimators.algorithms.dense import Dense
from estimators.algorithms.gumbel_rao import GumbelRao
from estimators.algorithms.gumbel_softmax import GumbelSoftmax
from estimators.algorithms.reinmax import ReinMax
from estimators.algorithms.relax import Relax, rebar
from estimators.algorithms.score_function import ScoreFunction
from estimators.algorithms.sparse import SparseMarginalization, entmax_marginalization, sparsemax
from estimators.algorithms.sparse_map import SparseMAP
from estimators.algorithms.straight_through import StraightThrough
from estimators.algorithms.sum_and_sample import SumAndSample
from estimators.algorithms.top_k_sparsemax import TopKSparsemax
from estimators.algorithms.unordered_set import UnorderedSet
from estimators.algorithms.vimco import VIMCO
from estimators.base import Estimate, Estimator, Proposal, check_fit, expected_loss, misfit
from estimators.draws import Draws, RandomDraws, enumerate_outcomes
from estimators.layers import LatentLinear, dot_products, start_near_zero
from estimators.mappings import fenchel_young_loss
from estimators.options import OptionError
from estimators.pairs import Latents, LossFunction, Pairs, Relaxation
from estimators.registry import ESTIMATORS, build
from estimators.seeds import derived_seed
from estimators.spaces import BitVector, Capability, Categorical, Categoricals, Space, as_scores

__all__ = [
    "ARMS",
    "ESTIMATORS",
    "VIMCO",
    "BitVector",
    "BoundedSparse",
    "Capability",
    "Categorical",
    "Categoricals",
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
    "Pairs",
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
    "check_fit",
    "derived_seed",
    "disarm",
    "dot_products",
    "entmax_marginalization",
    "enumerate_outcomes",
    "expected_loss",
    "fenchel_young_loss",
    "misfit",
    "rebar",
    "sparsemax",
    "start_near_zero",
]
