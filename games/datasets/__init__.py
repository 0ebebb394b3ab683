"""Data sets of signaling games, behind one interface: features, labels and a split."""

from __future__ import annotations

from collections.abc import Callable

from games.datasets.base import SPLITS, FeatureSet
from games.datasets.egg_signal_game import egg_signal_game
from games.datasets.emoji import emoji
from games.datasets.features import features
from games.datasets.synthetic import synthetic

DATASETS: dict[str, Callable[..., FeatureSet]] = {
    "emoji": emoji,
    "features": features,
    "egg_signal_game": egg_signal_game,
    "synthetic": synthetic,
}

__all__ = ["DATASETS", "SPLITS", "FeatureSet"]
