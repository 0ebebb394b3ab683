"""What the tasks on images share: where their batches come from, and how they are evaluated."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from estimators import Estimator, OptionError, RandomDraws, Space, derived_seed, expected_loss
from estimators.expectations import Evaluation, Measurement
from latent.datasets import DATASETS, ImageSet
from latent.models.evidence import PAIRS_AT_ONCE, Evidence

SPLITS = {"val": "validation", "test": "test"}
IMAGES_AT_ONCE = 64
"""Most images that an evaluation measures at a time; fewer, where more than 64 states of each are decoded."""
PICTURED = 10
"""Images of a row of reconstructions."""


def check_sizes(**sizes: int) -> None:
    """Refuse sizes below one.

    Raises:
        OptionError: naming the first.
    """
    for option, size in sizes.items():
        if size < 1:
            raise OptionError(option, f"must be at least 1, got {size}")


class ImageTask(nn.Module, ABC):
    """A model of images, trained on batches drawn with replacement and evaluated on whole splits.

    Args:
        data: the images; they live in memory, on the model's device, as bytes.
        binarised: draw each pixel as a bit whose probability is its grey level, afresh whenever the image is drawn; the bits
            of validation and test images are the same for every run. Without, pixels are grey levels.
        importance_samples: samples that the evidence of a test image is estimated with, at least 2; 0 leaves it out.
        importance_images: test images whose evidence is estimated, from the first on; 0 is all.
    """

    section: ClassVar[str] = "model"
    datasets: ClassVar[Mapping[str, Callable[..., ImageSet]]] = DATASETS
    levels: Tensor
    labels: Tensor

    def __init__(self, data: ImageSet, binarised: bool, importance_samples: int, importance_images: int) -> None:
        super().__init__()
        if importance_samples < 0 or importance_samples == 1:
            raise OptionError("importance_samples", f"must be 0, or at least 2 for a standard error, got {importance_samples}")
        if importance_images < 0:
            raise OptionError("importance_images", f"must not be negative, got {importance_images}")
        self.binarised = binarised
        self.importance_samples = importance_samples
        self.fingerprint = data.fingerprint
        self.size = data.images.shape[1:]
        self.pixels = self.size.numel()
        self.register_buffer("levels", data.images.flatten(1), persistent=False)
        self.register_buffer("labels", data.labels, persistent=False)
        self.rows = {split: data.rows(split) for split in ("train", "validation", "test")}
        self.importance_rows = self.rows["test"][: importance_images or None]

    def check_estimator(self, estimator: Estimator) -> None:
        """Refuse an estimator whose objective is neither the expected loss nor a bound on the evidence.

        Raises:
            OptionError: naming its option.
        """
        if estimator.objective is not expected_loss and not estimator.holds_entropy:
            message = "its objective is neither the expected loss nor a bound that holds the entropy of q"
            raise OptionError("name", f"{message}, as that of vimco does with weights: importance")

    def pick(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """The images of these rows as inputs of the model: bits ``[B, P]`` as floats, or grey levels ``[B, P]`` as bytes."""
        levels = self.levels.index_select(0, rows.to(self.levels.device))
        if not self.binarised:
            return levels
        # A byte is below the grey level g with probability g / 255.
        noise = torch.randint(0, 255, levels.shape, dtype=torch.uint8, generator=generator, device=generator.device)
        return (noise.to(levels.device) < levels).to(self.dtype)

    def as_input(self, images: Tensor) -> Tensor:
        """Images as networks read them: in [0, 1]."""
        return images if self.binarised else images.to(self.dtype) / 255

    def draw_rows(self, rows: Tensor, batch_size: int, generator: torch.Generator) -> Tensor:
        """``batch_size`` of the ``rows``, drawn with replacement."""
        return rows[torch.randint(len(rows), (batch_size,), generator=generator)]

    @torch.no_grad()
    def evaluate(self, split: str, estimator: Estimator) -> Evaluation:
        """Metrics of ``val`` or ``test``, over all of its images; for ``test`` also the evidence, where that is asked for.

        ``log_likelihood_standard_error`` is what the samples, not the images, leave uncertain about ``log_likelihood``.
        """
        batches = self._batches(self.rows[SPLITS[split]], PAIRS_AT_ONCE // self.states_of_an_image)
        found = Evaluation.of([self.measure(*batch, estimator, generator) for batch, generator in batches])
        if split == "test" and self.importance_samples:
            found.metrics.update(self._evidence(estimator))
        return found

    def _evidence(self, estimator: Estimator) -> dict[str, float]:
        found = [
            self.evidence(batch[0], estimator, generator, self.importance_samples)
            for batch, generator in self._batches(self.importance_rows, PAIRS_AT_ONCE // self.importance_samples)
        ]
        value, variance = (torch.cat(parts) for parts in zip(*found, strict=True))
        nats = float(value.mean())
        error = math.sqrt(float(variance.sum())) / len(value)
        per_dimension = self.pixels * math.log(2)
        return {
            "log_likelihood": nats,
            "log_likelihood_standard_error": error,
            "bits_per_dim": -nats / per_dimension,
            "bits_per_dim_standard_error": error / per_dimension,
        }

    def _batches(self, rows: Tensor, most: int) -> Iterator[tuple[tuple[Tensor, Tensor], torch.Generator]]:
        """Images and labels of the rows, at most so many at a time, the same for every run; and generators to sample with.

        Each part has a generator of its own, so that what one estimator draws does not change another's next images.
        """
        binarisation = torch.Generator().manual_seed(derived_seed("binarised images"))
        for number, part in enumerate(torch.split(rows, max(1, min(IMAGES_AT_ONCE, most)))):
            sampling = torch.Generator(self.levels.device).manual_seed(derived_seed("evaluation", number))
            yield (self.pick(part, binarisation), self.labels[part.to(self.labels.device)]), sampling

    @property
    def dtype(self) -> torch.dtype:
        """That of the parameters."""
        return next(self.parameters()).dtype

    def pictured(self) -> Tensor:
        """The first test images, for pictures."""
        return self.pick(self.rows["test"][:PICTURED], torch.Generator().manual_seed(derived_seed("binarised images")))

    def as_image(self, values: Tensor) -> Tensor:
        """``[M, P]`` to ``[M, H, W]``."""
        return torch.unflatten(values, 1, self.size)

    def drawing(self) -> RandomDraws:
        """Draws for pictures, the same every time."""
        return RandomDraws(torch.Generator(self.levels.device).manual_seed(derived_seed("pictures")))

    @abstractmethod
    def latent(self) -> Space:
        """An example of the latent variable, which an estimator must fit."""

    @property
    @abstractmethod
    def states_of_an_image(self) -> int:
        """Pairs that :meth:`measure` decodes for an image, whatever the estimator, if it decodes no more itself."""

    @abstractmethod
    def measure(self, images: Tensor, labels: Tensor, estimator: Estimator, generator: torch.Generator) -> Measurement:
        """What these images show."""

    @abstractmethod
    def evidence(self, images: Tensor, estimator: Estimator, generator: torch.Generator, samples: int) -> Evidence:
        """An estimate of log p(x) of each image."""

    @abstractmethod
    def pictures(self, estimator: Estimator) -> dict[str, Tensor]:
        """Pictures to look at, by name: ``[H, W]`` uint8 each."""
