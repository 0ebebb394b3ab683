"""MNIST, divided as the semi-supervised experiment divides it.

LeCun, Cortes and Burges 1998, http://yann.lecun.com/exdb/mnist/.
"""

from __future__ import annotations

import numpy as np

from latent.datasets.base import ImageSet
from latent.datasets.prepared import image_set

SEED = 351245


def split(images: int, validation: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of training images, in random order, and of random validation images.

    The first n training rows are those that the experiment of Correia, Niculae, Aziz and Martins (2020,
    https://arxiv.org/abs/2007.01919) draws as its n labelled images, in one stream with its validation images.
    """
    random = np.random.RandomState(SEED)
    kept = random.choice(images, validation, replace=False)
    free = np.setdiff1d(np.arange(images), kept)
    return free[random.permutation(len(free))], kept


def mnist(*, validation: int = 10_000, path: str | None = None) -> ImageSet:
    """MNIST: 70,000 handwritten digits of 28 x 28 pixels, 10,000 of them for test; get it with ``latent data prepare mnist``.

    Args:
        validation: how many of the 60,000 training images are kept for validation, chosen at random once and for all.
        path: a folder with the prepared file or with the published files; the cache if null.
    """
    return image_set("mnist", path, validation, split)
