"""The semi-supervised auto-encoder: a label that is seen for few images, and a Gaussian style inside.

Deviations from the published experiment: batches are drawn with replacement, not by epochs; Adam goes on from the warm start,
where the published code starts a new one from a checkpoint; and a first layer's weights of the label are initialised by the
number of labels, not by that of all inputs. As in Kingma et al. (2014) the labelled images' own bound joins the objective,
which is how the decoder comes to know labels before the unlabelled images are seen.
"""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple, final

import torch
from torch import Tensor

from estimators import (
    Categorical,
    Estimator,
    Latents,
    OptionError,
    RandomDraws,
    Space,
    fenchel_young_loss,
)
from estimators.expectations import Measurement, expectation
from latent.datasets import ImageSet
from latent.models.elbo import elbo
from latent.models.evidence import PAIRS_AT_ONCE, Evidence
from latent.models.gaussian import Gaussian, standard_normal_log_density
from latent.models.image_task import ImageTask, check_sizes
from latent.models.metrics import BITS_PER_DIM, DISTORTION, ELBO, LOSS, OF_EVIDENCE, RATE
from latent.models.networks import LatentMLP, mlp
from latent.models.pictures import grid
from latent.models.vae import bernoulli_log_likelihood
from latent.words import Metric

STYLES = 8
"""Rows of the picture of labels and styles."""


class Batch(NamedTuple):
    """Images with their labels ``[B]``, and as many without; images are ``[B, P]``."""

    images: Tensor
    labels: Tensor
    unlabelled: Tensor


@final
class SemiSupervisedVAE(ImageTask):
    r"""The published semi-supervised auto-encoder: a label y, a Gaussian z inside, and labels for some of the images.

    .. math:: L = \underbrace{\ell(s(x'), y') + \mathcal{B}(x', y')}_{\text{labelled}}
        + w\, \underbrace{\big( E_{q(y \mid x)}[\mathcal{B}(x, y)] - H(q(y \mid x)) \big)}_{\text{unlabelled}}, \qquad
        \mathcal{B}(x, y) = -E_{q(z \mid x, y)}[\log p(x \mid y, z)] + KL(q(z \mid x, y) \,\|\, N(0, I)) - \log p(y)

    The classifier's loss on labelled images is the Fenchel-Young loss that fits the estimator's mapping from scores to q:
    cross-entropy for softmax, sparsemax loss for sparsemax. The labels' prior is uniform. All labels of an image share the
    noise of z, which is drawn once. Decoder calls are those of an unlabelled image. Images are binarised afresh whenever they
    are drawn. The steps of the warm start (``train.warm_start_steps``) train on labelled images alone, so that the decoder
    knows what a label is when the unlabelled images begin to teach the classifier.

    Args:
        data: images.
        labelled: training images whose labels are seen, the first ones; without it, a tenth of them.
        unsupervised_weight: weight w; the published one is the ratio of unlabelled to labelled images.
        classifier_size: units of the classifier's three hidden layers.
        hidden_size: units of the two hidden layers of encoder and decoder.
        latent_size: dimensions of z.
        importance_samples: samples of z for each label that the evidence of a test image is estimated with, at least 2; 0
            leaves it out.
        importance_images: test images whose evidence is estimated, from the first on; 0 is all.

    Raises:
        OptionError: if an option is out of its range.

    References:
        - Kingma, Rezende, Mohamed and Welling (2014), Semi-supervised learning with deep generative models,
          https://arxiv.org/abs/1406.5298.
        - Liu, Regier, Tripuraneni, Jordan and McAuliffe (2019), https://arxiv.org/abs/1810.04777.
        - Correia, Niculae, Aziz and Martins (2020), section 5.1, https://arxiv.org/abs/2007.01919.
    """

    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("accuracy", "accuracy, most likely label", "%", "higher", ("summary", "table", "page")),
        Metric("expected_accuracy", "accuracy, expected", "%", "higher", ("summary", "page", "validation")),
        *(ELBO, BITS_PER_DIM, RATE, DISTORTION, *OF_EVIDENCE, LOSS),
        Metric("supervised_loss", "supervised loss", better="lower", shown=()),
        Metric("labelled_elbo", "labelled elbo", better="higher", shown=()),
    )
    headline: ClassVar[str] = "accuracy"

    def __init__(
        self,
        data: ImageSet,
        *,
        labelled: int | None = None,
        unsupervised_weight: float = 9.0,
        classifier_size: int = 256,
        hidden_size: int = 128,
        latent_size: int = 8,
        importance_samples: int = 64,
        importance_images: int = 500,
    ) -> None:
        super().__init__(data, True, importance_samples, importance_images)
        check_sizes(classifier_size=classifier_size, hidden_size=hidden_size, latent_size=latent_size)
        if unsupervised_weight < 0:
            raise OptionError("unsupervised_weight", f"must not be negative, got {unsupervised_weight}")
        train = self.rows["train"]
        labelled = max(1, len(train) // 10) if labelled is None else labelled
        if not 0 < labelled < len(train):
            raise OptionError(
                "labelled", f"must lie between 1 and the {len(train) - 1} that leave one unlabelled, got {labelled}"
            )
        self.labelled, self.unlabelled = train[:labelled], train[labelled:]
        self.unsupervised_weight = unsupervised_weight
        self.latent_size = latent_size
        self.classes = data.classes
        hidden = (hidden_size, hidden_size)
        self.classifier = mlp(self.pixels, *[classifier_size] * 3, self.classes)
        self.encoder = LatentMLP(self.classes, hidden, 2 * latent_size, features=self.pixels)
        self.decoder = LatentMLP(self.classes, hidden, self.pixels, features=latent_size)

    def check_estimator(self, estimator: Estimator) -> None:
        super().check_estimator(estimator)
        if estimator.holds_entropy:  # a bound inside the logarithm of a mean: its noise would push the objective up
            message = "a bound that holds the entropy of q needs the exact log p(x, y), and ssvae has a bound on it"
            raise OptionError("name", message)

    def latent(self) -> Space:
        return Categorical(torch.zeros(1, self.classes))

    def draw(self, batch_size: int, generator: torch.Generator) -> Batch:
        """A batch of labelled training images, and one of unlabelled ones."""
        labelled = self.draw_rows(self.labelled, batch_size, generator)
        unlabelled = self.draw_rows(self.unlabelled, batch_size, generator)
        labels = self.labels[labelled.to(self.labels.device)]
        return Batch(self.pick(labelled, generator), labels, self.pick(unlabelled, generator))

    def posterior(self, labels: Latents, images: Tensor) -> Gaussian:
        """``q(z | x, y)`` of N pairs; an image's part of the first layer is computed once for all of its labels."""
        return Gaussian(self.encoder(labels, labels.gather(self.encoder.project(images))))

    def log_likelihood(self, labels: Latents, style: Tensor, images: Tensor) -> Tensor:
        """``log p(x | y, z)`` of N pairs and their ``style`` z ``[N, D]``, ``[N]``."""
        logits = self.decoder(labels, self.decoder.project(style))
        return bernoulli_log_likelihood(logits, labels.gather(images))

    def _terms(self, labels: Latents, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Distortion and rate of N pairs, with the noise ``[B, D]`` that makes z."""
        posterior = self.posterior(labels, images)
        style = posterior.at(labels.gather(noise).unsqueeze(1))[:, 0]
        return -self.log_likelihood(labels, style, images), posterior.divergence() + math.log(self.classes)

    def _labelled(
        self, scores: Tensor, batch: Batch, estimator: Estimator, generator: torch.Generator | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The objective of the labelled images, ``[]``, and its metrics."""
        loss = fenchel_young_loss(scores, estimator.probabilities(Categorical(scores)), batch.labels, estimator.regulariser)
        labels = Latents.regular(batch.labels.unsqueeze(1), self.classes, scores.dtype)
        distortion, rate = self._terms(labels, batch.images, self._noise(scores, generator))
        accuracy = (scores.detach().argmax(1) == batch.labels).to(loss.dtype)
        objective = loss + distortion + rate
        metrics = {"supervised_loss": loss.detach(), "labelled_elbo": -(distortion + rate).detach(), "accuracy": accuracy}
        return objective.mean(), metrics | {"loss": objective.detach()}

    def _noise(self, scores: Tensor, generator: torch.Generator | None) -> Tensor:
        """``[B, D]``: what makes z, for all labels of an image."""
        return RandomDraws(generator).normal(scores.new_empty(len(scores), self.latent_size))

    def warm_start(
        self, batch: Batch, estimator: Estimator, generator: torch.Generator | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The objective of the labelled images alone, and its metrics."""
        objective, metrics = self._labelled(self.classifier(batch.images), batch, estimator, generator)
        return objective, metrics | {"decoder_calls": torch.zeros_like(batch.labels)}

    def forward(
        self, batch: Batch, estimator: Estimator, generator: torch.Generator | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The objective to differentiate, ``[]``, and detached metrics of each image, ``[B]`` each."""
        images = batch.unlabelled
        labelled, scores = self.classifier(torch.cat([batch.images, images])).chunk(2)
        noise = self._noise(scores, generator)
        bound = elbo(
            lambda labels: self._terms(labels, images, noise),
            torch.neg,
            estimator,
            Categorical(scores),
            context=images,
            generator=generator,
        )
        objective, metrics = self._labelled(labelled, batch, estimator, generator)
        metrics["loss"] = metrics["loss"] + self.unsupervised_weight * bound.metrics["loss"]
        return objective + self.unsupervised_weight * bound.objective.mean() + bound.auxiliary, bound.metrics | metrics

    @property
    def states_of_an_image(self) -> int:
        return self.classes

    def measure(self, images: Tensor, labels: Tensor, estimator: Estimator, generator: torch.Generator) -> Measurement:
        space = Categorical(self.classifier(images))
        noise = self._noise(space.scores, generator)  # before the estimator draws: the same for every one
        found = expectation(estimator, space, RandomDraws(generator))
        assert isinstance(found.pairs, Latents)
        distortions, rates = self._terms(found.pairs, images, noise)
        distortion = found.of(distortions)
        rate = found.of(rates) - found.entropy
        q = estimator.probabilities(space)
        label = space.scores.argmax(1)
        metrics = {
            "accuracy": (label == labels).double(),
            "expected_accuracy": q.gather(1, labels.unsqueeze(1))[:, 0],
            "elbo": -(distortion + rate),
            "distortion": distortion,
            "rate": rate,
            "decoder_calls": found.decoder_calls,
            "entropy": found.entropy,
        }
        variances = found.variances(elbo=distortions + rates, distortion=distortions, rate=rates)
        return Measurement(metrics, variances, {"state": label, "label": labels})

    def evidence(self, images: Tensor, estimator: Estimator, generator: torch.Generator, samples: int) -> Evidence:
        """Summed over the labels exactly; over z by importance sampling from ``q(z | x, y)``."""
        most = max(1, PAIRS_AT_ONCE // (len(images) * self.classes))
        parts = [min(most, samples - first) for first in range(0, samples, most)]
        each = Evidence.mean(torch.cat([self._log_weights(images, RandomDraws(generator), part) for part in parts], 1))
        values, variances = (part.view(len(images), self.classes) for part in each)
        value = values.logsumexp(1)
        return Evidence(value, (variances * (2 * (values - value.unsqueeze(1))).exp()).sum(1))

    def _log_weights(self, images: Tensor, draws: RandomDraws, samples: int) -> Tensor:
        """``log p(x, y, z) / q(z | x, y)`` of every label and samples of z, ``[B * C, S]``."""
        index = torch.arange(self.classes, device=images.device).repeat_interleave(samples).expand(len(images), -1)
        labels = Latents.regular(index, self.classes, images.dtype)
        posterior = self.posterior(labels, images)
        style = posterior.sample(draws, 1)
        joint = self.log_likelihood(labels, style[:, 0], images) + standard_normal_log_density(style[:, 0])
        return ((joint - posterior.log_probability(style)[:, 0]).double() - math.log(self.classes)).view(-1, samples)

    @torch.no_grad()
    def pictures(self, estimator: Estimator) -> dict[str, Tensor]:
        """``labels_and_styles``: a column a label, a row a style; ``reconstructions``, with the likeliest label."""
        draws, images = self.drawing(), self.pictured()
        styles = draws.normal(images.new_empty(STYLES, self.latent_size))
        every = Categorical(images.new_zeros(STYLES, self.classes)).enumerate()
        logits = self.decoder(every, self.decoder.project(every.gather(styles)))
        labels = expectation(estimator, Categorical(self.classifier(images)), draws).most_likely
        assert isinstance(labels, Latents)
        mean = self.posterior(labels, images).mean
        again = self.decoder(labels, self.decoder.project(mean))
        both = torch.cat([images, again.sigmoid()]).float()
        return {
            "labels_and_styles": grid(self.as_image(logits.sigmoid().float()), self.classes),
            "reconstructions": grid(self.as_image(both), len(images)),
        }
