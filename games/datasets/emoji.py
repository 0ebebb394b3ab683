"""The embedded data set: real drawings of emoji in six styles (see ``build_emoji.py`` and ``ATTRIBUTION.md``)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from games.datasets.base import FeatureSet
from games.datasets.features import features


def emoji() -> FeatureSet:
    """463 emoji in six drawing styles, embedded: EfficientNet-Lite0 features; two styles are the test images."""
    data = features(path=str(Path(__file__).with_name("emoji.npz")))
    return replace(data, source="emoji")
