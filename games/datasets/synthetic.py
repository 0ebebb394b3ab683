"""Small Gaussian concepts: a game to test with, without data."""

from __future__ import annotations

import numpy as np

from estimators import OptionError
from games.datasets.base import FeatureSet


def synthetic(*, concepts: int = 32, images: int = 20, size: int = 16, noise: float = 0.3, seed: int = 0) -> FeatureSet:
    """Gaussian concepts: each has a random centre, and its images are noisy copies of it; a quarter of them is for test.

    Args:
        concepts: number of concepts.
        images: images of each concept, at least 4.
        size: size of a feature vector.
        noise: standard deviation of an image around its concept's centre; centres have a standard deviation of 1.
        seed: seed of the centres and the noise.
    """
    for option, value, least in (("concepts", concepts, 2), ("images", images, 4), ("size", size, 1), ("seed", seed, 0)):
        if value < least:
            raise OptionError(option, f"must be at least {least}, got {value}")
    if not 0 <= noise <= 1e6:
        raise OptionError("noise", f"must lie between 0 and 1e6, got {noise}")
    random = np.random.default_rng(seed)
    centres = random.standard_normal((concepts, 1, size))
    drawn = centres + noise * random.standard_normal((concepts, images, size))
    split = np.arange(images) >= images - images // 4
    return FeatureSet.from_arrays(
        drawn.reshape(-1, size), np.repeat(np.arange(concepts), images), np.tile(split, concepts), source="synthetic"
    )
