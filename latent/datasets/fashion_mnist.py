"""Fashion-MNIST, divided as the bit-vector experiment divides it.

Xiao, Rasul and Vollgraf 2017, https://arxiv.org/abs/1708.07747.
"""

from __future__ import annotations

import numpy as np

from latent.datasets.base import ImageSet
from latent.datasets.prepared import image_set

SEED = 170807747


def split(images: int, validation: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of training images, in random order, and of the last images, for validation."""
    return np.random.RandomState(SEED).permutation(images - validation), np.arange(images - validation, images)


def fashion_mnist(*, validation: int = 5_000, path: str | None = None) -> ImageSet:
    """Fashion-MNIST: 70,000 articles of clothing of 28 x 28 pixels; get it with ``latent data prepare fashion_mnist``.

    Args:
        validation: how many of the 60,000 training images, the last ones, are kept for validation.
        path: a folder with the prepared file or with the published files; the cache if null.
    """
    return image_set("fashion_mnist", path, validation, split)
