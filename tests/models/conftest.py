"""Small sets of images."""

import pytest
import torch

from latent.datasets import SPLITS, ImageSet


def images(number=90, side=3, classes=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(number) % classes
    levels = torch.randint(0, 256, (number, side, side), generator=generator, dtype=torch.uint8)
    levels[:, 0, :] = (labels * 100).to(torch.uint8).unsqueeze(1)
    split = torch.full((number,), SPLITS["train"])
    split[-30:-15], split[-15:] = SPLITS["validation"], SPLITS["test"]
    return ImageSet(levels, labels, split, "test images")


@pytest.fixture
def tiny_images():
    return images()
