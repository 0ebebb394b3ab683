"""The tasks: what is drawn, decoded and measured, and what the semi-supervised model does with labels."""

import math

import pytest
import torch

import estimators
from estimators import Categorical, Latents, OptionError, misfit
from latent.models import VAE, BitVectorVAE, Reparameterization, SemiSupervisedVAE
from latent.models.gaussian import standard_normal_log_density
from latent.models.pictures import grid
from latent.models.pixel_categorical import PixelCategorical
from tests.models.conftest import images

SIZES = {"labelled": 12, "classifier_size": 6, "hidden_size": 7, "latent_size": 2, "importance_samples": 0}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def semi_supervised(seed=0, data=None, **options):
    torch.manual_seed(seed)
    return SemiSupervisedVAE(data or images(), **SIZES | options).double()


def bits(**options):
    torch.manual_seed(0)
    return BitVectorVAE(images(), **{"bits": 6, "hidden_size": 5, "pixel_features": 2, "importance_samples": 0} | options)


def test_pixels_are_bits_with_the_probability_of_their_grey_level():
    task = VAE(images(), latent_size=3, hidden_size=4)
    rows = torch.full((20_000,), 7)
    found = task.pick(rows, generator()).double()
    assert set(found.unique().tolist()) == {0.0, 1.0}
    wanted = task.levels[7].double() / 255
    assert ((found.mean(0) - wanted).abs() < 5 * (wanted * (1 - wanted) / 20_000).sqrt() + 1e-12).all()
    assert torch.equal(bits().pick(rows[:2], generator()), task.levels[rows[:2]])
    task.levels[7] = torch.tensor([0, 255, 0, 255, 255, 0, 0, 0, 255], dtype=torch.uint8)
    assert torch.equal(task.pick(rows, generator()), (task.levels[7] > 0).float().expand(20_000, -1))


def test_networks_and_baselines_read_pixels_between_zero_and_one():
    seen = {}
    for task in (bits(), VAE(images(), latent_size=3, hidden_size=4)):
        task.encoder.register_forward_pre_hook(lambda module, inputs: seen.update(encoder=inputs[0]))
        estimator = estimators.build("score_function", baseline="nvil")
        propose = estimator.propose
        estimator.propose = lambda space, draws, context, propose=propose: (
            seen.update(context=context) or propose(space, draws, context)
        )
        task(task.draw(20, generator()), estimator, generator())
        assert torch.equal(seen["encoder"], seen["context"])
        assert seen["context"].is_floating_point()
        assert 0 <= seen["context"].min() < 0.1
        assert 0.9 < seen["context"].max() <= 1


def test_a_categorical_encoder_starts_with_every_state_in_use():
    torch.manual_seed(0)
    task = VAE(images(), latent_size=40, hidden_size=30, importance_samples=0)
    calls = task(task.draw(20, generator()), estimators.build("sparsemax"), generator())[1]["decoder_calls"]
    assert calls.double().mean() > 35


@torch.no_grad()
def test_the_evaluation_of_the_semi_supervised_model_is_the_documented_one():
    task = semi_supervised()
    batch = task.draw(9, generator())
    for name in ("dense", "sparsemax", "score_function", "gumbel_softmax"):
        estimator = estimators.build(name).eval()
        found = task.measure(batch.images, batch.labels, estimator, generator(3)).metrics
        noise = torch.randn(9, 2, dtype=torch.float64, generator=generator(3))
        scores = task.classifier(batch.images)
        q = estimator.probabilities(Categorical(scores))
        everything = Categorical(scores).enumerate()
        distortion, rate = (each.view(9, 3) for each in task._terms(everything, batch.images, noise))
        entropy = -torch.where(q > 0, q * torch.where(q > 0, q, 1).log(), 0).sum(1)
        assert torch.allclose(found["distortion"], (q * distortion).sum(1))
        assert torch.allclose(found["rate"], (q * rate).sum(1) - entropy)
        assert torch.allclose(found["elbo"], -found["distortion"] - found["rate"])
        assert torch.allclose(found["expected_accuracy"], q[torch.arange(9), batch.labels])
        assert torch.equal(found["accuracy"], (scores.argmax(1) == batch.labels).double())


@torch.no_grad()
def test_estimators_of_the_same_q_are_evaluated_with_the_same_noise():
    task = semi_supervised()
    names = ("dense", "score_function", "gumbel_softmax", "sum_and_sample", "straight_through")
    found = [task.evaluate("val", estimators.build(name).eval()).metrics for name in names]
    assert len({round(each["elbo"], 9) for each in found}) == 1
    plain = bits()
    names = ("score_function", "straight_through", "arms")
    found = [plain.evaluate("val", estimators.build(name).eval()).metrics for name in names]
    assert len({round(each["elbo"], 9) for each in found}) == 1


@torch.no_grad()
def test_the_distortion_of_the_most_likely_state_is_reported():
    torch.manual_seed(0)
    task = VAE(images(), latent_size=4, hidden_size=5, importance_samples=0).double()
    batch = task.draw(9, generator())
    scores = task.encode(batch).scores
    for name in ("dense", "sparsemax", "score_function"):
        found = task.measure(batch, torch.zeros(9), estimators.build(name).eval(), generator()).metrics
        best = Latents.regular(scores.argmax(1, keepdim=True), 4, torch.float64)
        assert torch.allclose(found["argmax_distortion"], -task.log_likelihood(best, batch))


def test_training_sees_training_images_only_and_evaluation_whole_splits():
    data = images()
    task = bits()
    drawn = task.draw(2000, generator())
    training = {tuple(row) for row in data.images.flatten(1)[:60].tolist()}
    assert {tuple(row) for row in drawn.tolist()} == training
    for split, rows in (("val", slice(60, 75)), ("test", slice(75, 90))):
        seen = torch.cat([batch[0] for batch, _ in task._batches(task.rows[{"val": "validation"}.get(split, split)], 4)])
        assert torch.equal(seen, data.images.flatten(1)[rows])


def test_the_labels_of_unlabelled_images_are_never_read():
    data = images()
    first, second = semi_supervised(), semi_supervised()
    second.labels[12:60] = 0
    estimator = estimators.build("dense")
    for task in (first, second):
        batch = task.draw(8, generator())
        objective, _ = task(batch, estimator, generator(1))
        objective.backward()
    for left, right in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(left.grad, right.grad)
    assert torch.equal(first.labelled, torch.arange(12))
    assert torch.equal(first.unlabelled, torch.arange(12, 60))
    assert semi_supervised(data=data, labelled=None).labelled.numel() == 6


@pytest.mark.parametrize(
    ("name", "options"), [("dense", {}), ("sparsemax", {}), ("entmax", {"alpha": 1.5}), ("top_k_sparsemax", {"k": 2})]
)
def test_the_semi_supervised_objective_is_the_documented_one(name, options):
    """In plain words: every label on its own, with the same noise."""
    task = semi_supervised(unsupervised_weight=3.0)
    estimator = estimators.build(name, **options)
    batch = task.draw(5, generator())
    objective, metrics = task(batch, estimator, generator(4))
    noises = generator(4)
    unlabelled_noise, labelled_noise = (torch.randn(5, 2, dtype=torch.float64, generator=noises) for _ in range(2))

    def bound(image, label, noise):
        """-E log p(x | y, z) + KL - log p(y), with networks applied to one image and one label."""
        pair = Latents.regular(torch.tensor([[label]]), 3, torch.float64)
        mean, log_variance = task.encoder(pair, task.encoder.project(image)).chunk(2, 1)
        z = mean + (log_variance / 2).exp() * noise
        p = task.decoder(pair, task.decoder.project(z)).sigmoid()
        likelihood = (image * p.log() + (1 - image) * (1 - p).log()).sum()
        divergence = (mean.square() + log_variance.exp() - 1 - log_variance).sum() / 2
        return -likelihood + divergence + math.log(3)

    labelled = 0
    for image, label, noise in zip(batch.images, batch.labels, labelled_noise, strict=True):
        scores = task.classifier(image)
        q = estimator.probabilities(Categorical(scores.unsqueeze(0)))[0]
        classifier = q @ scores + estimator.regulariser(q) - scores[label]
        if name == "dense":
            assert torch.allclose(classifier, -scores.log_softmax(0)[label])
        labelled = labelled + classifier + bound(image.unsqueeze(0), int(label), noise)
    unlabelled = 0
    for image, noise in zip(batch.unlabelled, unlabelled_noise, strict=True):
        q = estimator.probabilities(Categorical(task.classifier(image).unsqueeze(0)))[0]
        unlabelled = unlabelled + sum(q[label] * bound(image.unsqueeze(0), label, noise) for label in range(3))
        unlabelled = unlabelled + (q[q > 0] * q[q > 0].log()).sum()
    exact = (labelled + 3 * unlabelled) / 5
    assert torch.allclose(objective, exact)
    assert metrics["loss"].mean() == pytest.approx(float(exact.detach()))
    parameters = list(task.parameters())
    for left, right in zip(torch.autograd.grad(objective, parameters), torch.autograd.grad(exact, parameters), strict=True):
        assert torch.allclose(left, right, atol=1e-9)


def test_the_warm_start_is_the_labelled_part_alone():
    task = semi_supervised(unsupervised_weight=3.0)
    batch = task.draw(5, generator())
    estimator = estimators.build("sparsemax")
    objective, metrics = task.warm_start(batch, estimator, generator())
    other = batch._replace(unlabelled=1 - batch.unlabelled)
    assert torch.equal(objective, task.warm_start(other, estimator, generator())[0])
    assert float(objective.detach()) == pytest.approx(float((metrics["supervised_loss"] - metrics["labelled_elbo"]).mean()))
    assert metrics["loss"].mean() == pytest.approx(float(objective.detach()))
    assert not metrics["decoder_calls"].any()
    assert metrics["decoder_calls"].shape == (5,)


@pytest.mark.parametrize("kind", ["vae", "bit_vector_vae", "ssvae"])
@pytest.mark.parametrize("sparse", [True, False])
def test_only_the_pairs_of_the_proposal_are_decoded(kind, sparse):
    task = {"vae": lambda: VAE(images(), latent_size=6, hidden_size=5), "bit_vector_vae": bits, "ssvae": semi_supervised}[
        kind
    ]()
    name = (
        {True: "sparse_map", False: "score_function"}[sparse]
        if kind == "bit_vector_vae"
        else {True: "sparsemax", False: "dense"}[sparse]
    )
    estimator = estimators.build(name)
    decoded = []
    task.decoder.register_forward_hook(lambda module, args, result: decoded.append(len(result)))
    batch = task.draw(7, generator())
    _, metrics = task(batch, estimator, generator())
    calls = int(metrics["decoder_calls"].sum())
    assert decoded == ([calls, 7] if kind == "ssvae" else [calls])  # the labelled images know their label
    if sparse:
        space = Categorical(task.classifier(batch.unlabelled)) if kind == "ssvae" else task.encode(batch)
        assert calls == int((estimator.probabilities(space) > 0).sum())


TASKS = {
    "one categorical": lambda: VAE(images(), latent_size=4, hidden_size=5, importance_samples=8),
    "several": lambda: VAE(images(), latent="categoricals", latent_size=2, categories=3, hidden_size=5, importance_samples=8),
    "bits": lambda: VAE(images(), latent="bit_vector", latent_size=4, hidden_size=5, importance_samples=8),
    "grey levels": lambda: bits(importance_samples=4),
    "labels": lambda: semi_supervised(importance_samples=4),
}


@pytest.mark.parametrize("kind", TASKS)
@pytest.mark.parametrize("name", estimators.ESTIMATORS)
def test_every_estimator_trains_and_evaluates_the_models_of_its_latent(name, kind):
    options = {"weights": "importance"} if name == "vimco" else {}
    task, estimator = TASKS[kind](), estimators.build(name, **options)
    if misfit(estimator, task.latent()):
        with pytest.raises(OptionError, match=f"name: {name} does not fit: a {task.latent().name} latent cannot "):
            estimators.check_fit(estimator, task.latent(), name)
        return
    if estimator.holds_entropy and isinstance(task, SemiSupervisedVAE):
        with pytest.raises(OptionError, match="a bound on it"):
            task.check_estimator(estimator)
        return
    task.check_estimator(estimator)
    batch = task.draw(4, generator())
    objective, metrics = task(batch, estimator.train(), generator())
    objective.backward()
    assert {each.shape for each in metrics.values()} == {(4,)}
    assert not any(each.requires_grad for each in metrics.values())
    for parameter in task.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
    found = task.evaluate("test", estimator.eval()).metrics
    assert all(map(math.isfinite, found.values()))
    assert found["log_likelihood"] > found["elbo"] - 5 * found["log_likelihood_standard_error"] - 1


def test_the_score_function_trains_a_gaussian_latent():
    """It needs no reparameterisation: its mean gradient, over many draws, is that of reparameterised samples."""
    torch.manual_seed(0)
    task = VAE(images(), latent="gaussian", latent_size=2, hidden_size=5, importance_samples=8).double()
    batch = task.draw(4, generator())
    weight = task.encoder[-1].bias

    def gradients(estimator, seeds):
        found = []
        for seed in range(seeds):
            task.check_estimator(estimator)
            objective, metrics = task(batch, estimator, generator(seed))
            found.append(torch.autograd.grad(objective, weight)[0])
            assert int(metrics["decoder_calls"][0]) == estimator.samples
        return torch.stack(found)

    scored = gradients(estimators.build("score_function", samples=1000, baseline="leave_one_out"), 40)
    moved = gradients(Reparameterization(samples=1000), 40)
    error = (scored.var(0) / 40 + moved.var(0) / 40).sqrt()
    assert ((scored.mean(0) - moved.mean(0)).abs() < 4.5 * error).all()
    assert (error < 0.1 * moved.mean(0).norm()).all()
    found = task.evaluate("test", estimators.build("score_function").eval())
    assert all(map(math.isfinite, found.metrics.values()))
    assert found.metrics["elbo_standard_error"] > 0


@pytest.mark.parametrize("latent", ["categorical", "categoricals", "bit_vector"])
def test_reparameterisation_of_a_discrete_latent_is_refused_with_what_is_missing(latent):
    task = VAE(images(), latent=latent, latent_size=4, hidden_size=5)
    message = f"name: reparameterization does not fit: a {latent} latent cannot be reparameterised"
    with pytest.raises(OptionError) as caught:
        estimators.check_fit(Reparameterization(), task.latent(), "reparameterization")
    assert str(caught.value) == message


def test_evaluation_is_the_same_whatever_was_drawn_before_and_leaves_no_trace():
    task = semi_supervised(importance_samples=4)
    estimator = estimators.build("score_function").eval()
    first = task.evaluate("test", estimator)
    torch.rand(3)
    before = torch.get_rng_state()
    again = task.evaluate("test", estimator)
    assert again.metrics == first.metrics
    assert all(torch.equal(again.examples[name], example) for name, example in first.examples.items())
    task.pictures(estimator)
    assert torch.equal(before, torch.get_rng_state())


def test_the_accuracy_is_that_of_the_classifier():
    task = semi_supervised()
    metrics = task.evaluate("test", estimators.build("sparsemax").eval()).metrics
    rows = task.rows["test"]
    batch = torch.cat([batch[0] for batch, _ in task._batches(rows, 100)])
    right = task.classifier(batch).argmax(1) == task.labels[rows]
    assert metrics["accuracy"] == pytest.approx(float(right.double().mean()))


@torch.no_grad()
def test_the_evidence_of_the_semi_supervised_model_agrees_with_a_fine_grid():
    """With one dimension of z, the integral is a sum."""
    task = semi_supervised(latent_size=1)
    batch = task.draw(4, generator()).unlabelled
    estimator = estimators.build("dense").eval()
    found = [task.evidence(batch, estimator, generator(seed), 300) for seed in range(100)]
    values, errors = torch.stack([each.value for each in found]), torch.stack([each.variance for each in found]).sqrt()
    z = torch.linspace(-8, 8, 4001, dtype=torch.float64).unsqueeze(1)
    total = 0
    for label in range(3):
        pairs = Latents.regular(torch.full((4001, 1), label), 3, torch.float64)
        logits = task.decoder(pairs, task.decoder.project(z))
        log_likelihood = batch @ logits.t() - torch.nn.functional.softplus(logits).sum(1)
        total = total + (log_likelihood + standard_normal_log_density(z)).exp().sum(1) * 0.004 / 3
    assert ((values.mean(0) - total.log()).abs() < 5 * errors.mean(0) / math.sqrt(100) + errors.mean(0) ** 2).all()
    assert (errors < 0.1).all()
    assert (values.std(0) / errors.mean(0) - 1).abs().max() < 0.3


@torch.no_grad()
def test_the_levels_of_a_pixel_have_a_distribution_whose_mean_is_drawn():
    task = bits()
    assert isinstance(task.likelihood, PixelCategorical)
    estimator = estimators.build("sparse_map").eval()
    pictures = task.pictures(estimator)
    assert set(pictures) == {"samples", "reconstructions"}
    assert all(each.dtype == torch.uint8 for each in pictures.values())
    latents = Latents.regular_vectors(torch.ones(1, 1, 6))
    every = torch.arange(256).expand(9, 256).t()
    features = task._features(latents).expand(256, -1, -1)
    one_pixel = features[:, :1]
    probabilities = task.likelihood(one_pixel, every[:, :1]).exp()
    assert float(probabilities.sum()) == pytest.approx(1, abs=1e-5)
    assert float((probabilities * torch.arange(256)).sum() / 255) == pytest.approx(
        float(task.mean_image(latents)[0, 0]), abs=1e-5
    )


def test_pictures_of_labels_and_styles_have_a_column_a_label():
    task = semi_supervised()
    pictures = task.pictures(estimators.build("sparsemax").eval())
    side = 30 + 2  # ten times three pixels and a gap
    assert pictures["labels_and_styles"].shape == (8 * side - 2, 3 * side - 2)
    shown = pictures["labels_and_styles"]
    draws = task.drawing()
    styles = draws.normal(torch.empty(8, 2, dtype=torch.float64))
    pair = Latents.regular(torch.tensor([[2]]), 3, torch.float64)
    image = task.decoder(pair, task.decoder.project(styles[5:6])).sigmoid().detach()
    assert shown[5 * side, 2 * side] == (image[0, 0] * 255).round()


def test_a_grid_places_images_row_by_row():
    shown = grid(torch.stack([torch.full((40, 30), value) for value in (0.0, 0.2, 0.4, 0.6, 1.0)]), 3)
    assert shown.shape == (2 * 42 - 2, 3 * 32 - 2)
    assert [int(shown[0, 0]), int(shown[0, 32]), int(shown[42, 0]), int(shown[42, 32])] == [0, 51, 153, 255]
    assert shown[42, 64] == 128  # no image there


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labelled": 0}, "labelled: must lie between 1 and the 59"),
        ({"labelled": 60}, "labelled: must lie between 1 and the 59"),
        ({"unsupervised_weight": -1.0}, "unsupervised_weight: must not be negative"),
        ({"hidden_size": 0}, "hidden_size: must be at least 1"),
    ],
)
def test_options_out_of_range_are_named(options, message):
    with pytest.raises(OptionError, match=message):
        semi_supervised(**options)


def test_an_image_is_projected_once_for_all_of_its_labels():
    task = semi_supervised()
    seen = []
    task.encoder.vector.register_forward_hook(lambda module, args, result: seen.append(len(result)))
    task(task.draw(6, generator()), estimators.build("dense"), generator())
    assert seen == [6, 6]  # the unlabelled images, and the labelled ones
