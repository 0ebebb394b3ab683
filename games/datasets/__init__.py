"""Data sets of signaling games, behind one interface: features, labels and a split."""

from __future__ import annotations

from collections.abc import Callable

from estimators.parts import Registry
from games.datasets.base import FeatureSet
from games.datasets.egg_signal_game import egg_signal_game
from games.datasets.emoji import emoji
from games.datasets.features import features
from games.datasets.synthetic import synthetic
from latent.datasets.base import GROUP, SPLITS, DataSet

DATASETS = Registry[Callable[..., FeatureSet]](
    "data set",
    {"emoji": emoji, "features": features, "egg_signal_game": egg_signal_game, "synthetic": synthetic},
    makes=FeatureSet,
    group=GROUP,
    family=DataSet,
)
"""Data sets by name; other distributions add those that their return annotation says to be a :class:`FeatureSet`."""

__all__ = ["DATASETS", "SPLITS", "FeatureSet"]
