"""The referential game: what is drawn, what is decoded, and what its objective and evaluation are."""

import pytest
import torch

import estimators
from estimators import Categorical, OptionError, misfit
from games import SignalGame
from games.agents import DotProductReceiver, MLPSender, ScalarFunctionSender
from games.datasets import SPLITS
from games.datasets.synthetic import synthetic
from games.sampling import GameSampler
from games.signal_game import zero_one

OPTIONS = {"vocabulary_size": 12, "candidates": 5, "hidden_size": 8, "validation_games": 40, "test_games": 60}


def game(seed=0, **options):
    torch.manual_seed(seed)
    return SignalGame(synthetic(concepts=10, images=8, size=6), **OPTIONS | options)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_games_have_distinct_concepts_from_the_right_split():
    data = synthetic(concepts=10, images=8, size=6).with_validation(0.1)
    for split, code in SPLITS.items():
        games = GameSampler(data, split, 5).draw(500, generator())
        assert (data.split[games.images] == code).all()
        concepts = data.labels[games.images].sort(1).values
        assert (concepts.diff(dim=1) > 0).all()
        assert games.target.min() == 0
        assert games.target.max() == 4


def test_every_image_and_every_place_is_as_likely_as_any_other():
    data = synthetic(concepts=6, images=8, size=2)
    games = GameSampler(data, "train", 3).draw(20_000, generator())
    images = torch.bincount(games.target_image, minlength=48).double()
    share = images[data.split == SPLITS["train"]] / 20_000
    assert torch.allclose(share, torch.full_like(share, 1 / 36), atol=0.006)
    assert torch.allclose(torch.bincount(games.target).double() / 20_000, torch.full((3,), 1 / 3).double(), atol=0.015)


def test_fixed_games_do_not_depend_on_the_seed_or_the_estimator():
    left, right = game(seed=0), game(seed=5, sender="published", entropy_coefficient=0.3)
    for split in ("val", "test"):
        assert torch.equal(left.fixed_games[split].images, right.fixed_games[split].images)
        assert torch.equal(left.fixed_games[split].target, right.fixed_games[split].target)


def test_validation_and_training_never_see_test_images():
    task = game()
    test = set(task.fixed_games["test"].images.flatten().tolist())
    assert not test & set(task.fixed_games["val"].images.flatten().tolist())
    assert not test & set(task.games.draw(2000, generator()).images.flatten().tolist())
    validation = set(task.fixed_games["val"].images.flatten().tolist())
    assert not validation & set(task.games.draw(2000, generator()).images.flatten().tolist())


def test_the_sender_sees_only_the_target_and_the_receiver_all_candidates():
    task = game()
    games = task.draw(3, generator())
    seen = {}
    task.sender.register_forward_pre_hook(lambda module, args: seen.update(sender=args[0]))
    task.receiver.candidates.register_forward_pre_hook(lambda module, args: seen.update(receiver=args[0]))
    task(games, estimators.build("dense"))
    assert torch.equal(seen["sender"], task.features[games.images[torch.arange(3), games.target]])
    assert torch.equal(seen["receiver"], task.features[games.images])


FITTING = [name for name in estimators.ESTIMATORS if not misfit(estimators.build(name), Categorical(torch.zeros(1, 12)))]


@pytest.mark.parametrize("name", FITTING)
def test_candidates_are_embedded_once_however_many_messages_are_decoded(name):
    task = game()
    calls = []
    task.receiver.candidates.register_forward_hook(lambda module, args, result: calls.append(result.shape))
    task(task.draw(3, generator()), estimators.build(name))
    assert calls == [torch.Size([3, 5, 8])]


def test_objective_of_dense_is_the_hand_written_expectation():
    task = game(entropy_coefficient=0.1).double()
    games = task.draw(4, generator())
    target, candidates = task.features[games.target_image], task.features[games.images]
    log_q = task.sender(target).log_softmax(1)
    embedded = candidates @ task.receiver.candidates.weight.t()
    logits = torch.einsum("kh,bch->bkc", task.receiver.messages.weight, embedded)
    log_p = logits.log_softmax(2)[torch.arange(4), :, games.target]
    by_hand = (log_q.exp() * (-log_p + 0.1 * log_q)).sum(1).mean()
    objective, metrics = task(games, estimators.build("dense"))
    torch.testing.assert_close(objective, by_hand)
    hits = (logits.argmax(2) == games.target[:, None]).double()
    torch.testing.assert_close(metrics["success_rate"], (log_q.exp() * hits).sum(1).detach())
    torch.testing.assert_close(metrics["loss"], (log_q.exp() * -log_p).sum(1).detach())
    assert metrics["decoder_calls"].tolist() == [12] * 4


def test_evaluation_is_by_the_most_likely_message_and_exact_in_expectation():
    task = game(seed=3).double()
    for parameter in task.sender.parameters():
        parameter.data.mul_(30)
    games = task.fixed_games["test"]
    scores = task.sender(task.features[games.target_image]).detach()
    embedded = task.receiver.embed(task.features[games.images])
    logits = torch.einsum("kh,bch->bkc", task.receiver.messages.weight, embedded)
    hits = (logits.argmax(2) == games.target[:, None]).double()
    for name in ("dense", "sparsemax", "score_function"):
        estimator = estimators.build(name).eval()
        q = estimator.probabilities(Categorical(scores))
        metrics = task.evaluate("test", estimator).metrics
        assert metrics["success_rate"] == pytest.approx(float(hits[torch.arange(60), scores.argmax(1)].mean()))
        assert metrics["expected_success_rate"] == pytest.approx(float((q * hits).sum(1).mean()), abs=1e-6)
        assert metrics["messages_in_use"] == scores.argmax(1).unique().numel()
        calls = {"dense": 12, "score_function": 1, "sparsemax": float((q > 0).sum(1).double().mean())}[name]
        assert metrics["decoder_calls"] == pytest.approx(calls)


def test_the_evaluated_loss_is_the_expectation_of_what_is_trained():
    """Under a zero-one reward: minus the probability that the receiver's sampled choice is the target."""
    task, estimator = game(reward="zero_one").double(), estimators.build("score_function")
    games = task.fixed_games["val"]
    q = task.sender(task.features[games.target_image]).softmax(1)
    embedded = task.receiver.embed(task.features[games.images])
    p = torch.einsum("kh,bch->bkc", task.receiver.messages.weight, embedded).softmax(2)
    expected = -(q * p[torch.arange(40), :, games.target]).sum(1).mean()
    assert task.evaluate("val", estimator).metrics["loss"] == pytest.approx(float(expected.detach()), rel=1e-12)


def test_evaluation_in_chunks_is_the_same(monkeypatch):
    task, estimator = game(), estimators.build("sparsemax")
    whole = task.evaluate("test", estimator)
    monkeypatch.setattr("games.signal_game.MOST_SCORES_AT_ONCE", 7 * 12 * 5)
    parts = task.evaluate("test", estimator)
    assert parts.metrics == pytest.approx(whole.metrics)
    for name, example in whole.examples.items():
        assert torch.equal(parts.examples[name], example)


def test_the_examples_of_an_evaluation_are_its_games_in_order():
    task = game(seed=3)
    games = task.fixed_games["test"]
    for name in ("sparsemax", "score_function"):
        found = task.evaluate("test", estimators.build(name).eval())
        scores = task.sender(task.features[games.target_image])
        assert torch.equal(found.examples["target"], games.target_image)
        assert torch.equal(found.examples["message"], scores.argmax(1))
        rows = torch.arange(60)
        right = found.examples["choice"] == games.target_image
        assert found.metrics["success_rate"] == pytest.approx(float(right.double().mean()))
        assert (found.examples["choice"].unsqueeze(1) == games.images).any(1).all()
        latents = Categorical(scores).select(found.examples["message"].unsqueeze(1))
        logits = task.receiver(latents, task.receiver.embed(task.features[games.images]))
        assert torch.equal(found.examples["choice"], games.images[rows, logits.argmax(1)])


@pytest.mark.parametrize("name", ["score_function", "sparsemax"])
def test_the_messages_of_a_large_vocabulary_are_never_enumerated(name, monkeypatch):
    """Samples and the support alone are decoded, and the estimate agrees with the expectation within its standard error."""
    task = game(vocabulary_size=200).double()
    with torch.no_grad():
        for parameter in task.sender.parameters():
            parameter.mul_(30)
    estimator = estimators.build(name).eval()
    exact = task.evaluate("test", estimator).metrics
    read = []
    monkeypatch.setattr("estimators.expectations.MOST_DECODED", 20)
    task.receiver.messages.register_forward_hook(lambda module, arguments, result: read.append(len(arguments[0])))
    found = task.evaluate("test", estimator).metrics
    assert found["success_rate"] == exact["success_rate"]
    assert found["decoder_calls"] == exact["decoder_calls"]
    if name == "sparsemax":  # evaluated on its own support, whatever its size
        assert found == pytest.approx(exact)
        return
    for metric in ("expected_success_rate", "loss"):
        assert 0 < found[f"{metric}_standard_error"] < 0.2
        assert abs(found[metric] - exact[metric]) < 4.5 * found[f"{metric}_standard_error"]


def test_zero_one_reward_has_the_gradient_of_the_expected_reward():
    logits = torch.tensor([[0.0, -1.0, 0.7, 0.2]], dtype=torch.float64).expand(200_000, 4).requires_grad_()
    target = torch.full((200_000,), 2)
    loss = zero_one(logits, target, generator())
    assert set(loss.unique().tolist()) == {-1.0, 0.0}
    (gradients,) = torch.autograd.grad(loss.sum(), logits)
    one = logits[0].detach().requires_grad_()
    (exact,) = torch.autograd.grad(-one.softmax(0)[2], one)
    errors = (gradients.mean(0) - exact).abs() / (gradients.std(0) / 200_000**0.5)
    assert errors.max() < 4.5
    biased = (1.05 * gradients.mean(0) - exact).abs() / (gradients.std(0) / 200_000**0.5)
    assert biased.max() > 4.5


def test_zero_one_needs_an_estimator_that_samples():
    task = game(reward="zero_one")
    task.check_estimator(estimators.build("score_function"))
    for name in ("dense", "gumbel_softmax", "sparsemax"):
        with pytest.raises(OptionError, match="samples messages"):
            task.check_estimator(estimators.build(name))


@pytest.mark.parametrize("reward", ["log_likelihood", "zero_one"])
def test_training_learns(reward):
    task = game(reward=reward, entropy_coefficient=0.02)
    estimator = estimators.build("score_function", samples=4, baseline="leave_one_out")
    before = task.evaluate("val", estimator).metrics["success_rate"]
    optimizer = torch.optim.Adam(task.parameters(), lr=1e-2)
    for seed in range(400):
        objective, _ = task(task.draw(32, generator(seed)), estimator, generator(seed + 1000))
        optimizer.zero_grad()
        objective.backward()
        optimizer.step()
    assert task.evaluate("val", estimator).metrics["success_rate"] > before + 0.3


def test_the_published_sender_is_one_scalar_function_of_each_coordinate():
    torch.manual_seed(0)
    sender = ScalarFunctionSender(6, 4, 9).double()
    x = torch.randn(3, 6, dtype=torch.float64)
    b, c = sender.expand.weight[:, 0], sender.contract.weight[0]
    embedded = x @ sender.embed.weight.t()
    hidden = torch.zeros(3, 4, dtype=torch.float64)
    for i in range(3):
        for j in range(4):
            hidden[i, j] = torch.sigmoid((c * torch.sigmoid(b * embedded[i, j])).sum())
    torch.testing.assert_close(sender(x), hidden @ sender.score.weight.t() / 10)
    assert len(c) == 512
    assert not any(name.endswith("bias") for name, _ in sender.named_parameters())


def test_the_mlp_sender_starts_nearly_uniform():
    torch.manual_seed(0)
    q = MLPSender(20, 16, 64)(torch.randn(100, 20)).softmax(1)
    assert q.max() < 1.1 / 64


def test_the_receiver_scores_are_dot_products():
    torch.manual_seed(0)
    receiver = DotProductReceiver(6, 4, 9)
    candidates = torch.randn(2, 3, 6)
    latents = estimators.Latents.regular(torch.tensor([[1], [8]]), 9, torch.float32)
    embedded = receiver.embed(candidates)
    expected = torch.stack([embedded[i] @ receiver.messages.weight[k] for i, k in enumerate((1, 8))])
    torch.testing.assert_close(receiver(latents, embedded), expected)


@pytest.mark.parametrize(
    ("options", "option"),
    [
        ({"vocabulary_size": 0}, "vocabulary_size"),
        ({"candidates": 11}, "candidates"),
        ({"candidates": 1}, "candidates"),
        ({"hidden_size": -1}, "hidden_size"),
        ({"entropy_coefficient": -0.1}, "entropy_coefficient"),
        ({"validation_fraction": 1.0}, "validation_fraction"),
        ({"test_games": 0}, "test_games"),
    ],
)
def test_options_out_of_range_are_refused_by_name(options, option):
    with pytest.raises(OptionError) as caught:
        game(**options)
    assert caught.value.option == option


@pytest.mark.parametrize("name", FITTING)
def test_every_categorical_estimator_trains_the_game(name):
    """One step changes both players, with finite metrics; the calls are those of the pairs decoded."""
    task, estimator, source = game(), estimators.build(name), generator()
    for _ in range(2):
        objective, metrics = task(task.draw(16, source), estimator, source)
    task.zero_grad()
    objective.backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in task.parameters())
    assert all(torch.isfinite(value).all() and value.shape == (16,) for value in metrics.values())
    for split, result in ((split, task.evaluate(split, estimator).metrics) for split in ("val", "test")):
        assert 0 <= result["success_rate"] <= 1, split
