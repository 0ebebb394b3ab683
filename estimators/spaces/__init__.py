"""Kinds of latent variables: what estimators ask for samples, probabilities, best states and the rest."""

from estimators.spaces.bit_vector import BitVector
from estimators.spaces.categorical import Categorical
from estimators.spaces.categoricals import Categoricals
from estimators.spaces.space import CAPABILITIES, MOST_STATES, Capability, Distinct, Incapable, Space, as_scores

__all__ = [
    "CAPABILITIES",
    "MOST_STATES",
    "BitVector",
    "Capability",
    "Categorical",
    "Categoricals",
    "Distinct",
    "Incapable",
    "Space",
    "as_scores",
]
