"""The referential game: the sender sees a target and names it with one message; the receiver finds it among others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from estimators import Categorical, Estimator, Latents, OptionError, RandomDraws, Space, derived_seed, expected_loss
from estimators.expectations import MOST_DECODED, Evaluation, Measurement, expectation
from games.agents import RECEIVERS, SENDERS, ReceiverPart, SenderPart
from games.agents.base import check_size
from games.datasets import DATASETS, FeatureSet
from games.sampling import Games, GameSampler
from latent.words import Metric

MOST_SCORES_AT_ONCE = 1 << 22
"""Receiver's scores that an evaluation holds at a time, so that its memory does not grow with the vocabulary."""


def _fixed_generator(name: str) -> torch.Generator:
    return torch.Generator().manual_seed(derived_seed(name))


def negative_log_likelihood(logits: Tensor, target: Tensor, generator: torch.Generator | None) -> Tensor:
    """``-log p(target)`` for scores ``[N, C]``, ``[N]``."""
    return nn.functional.cross_entropy(logits, target, reduction="none")


def zero_one(logits: Tensor, target: Tensor, generator: torch.Generator | None) -> Tensor:
    """Minus one where a candidate sampled by the receiver is the target, else zero; ``[N]``.

    The value has no gradient in the receiver's scores: what is differentiated is the score function of the receiver's
    choice a, ``loss * grad log p(a)``, whose expectation is the gradient of the expected loss.
    """
    log_probabilities = logits.log_softmax(-1)
    action = RandomDraws(generator).categorical(log_probabilities.exp(), 1)
    loss = -(action[:, 0] == target).to(logits.dtype)
    log_probability = log_probabilities.gather(1, action)[:, 0]
    return loss + loss * (log_probability - log_probability.detach())


class Reward(NamedTuple):
    """``loss``: what training differentiates, from scores, targets and a generator; ``expected``: its exact expectation."""

    loss: Callable[[Tensor, Tensor, torch.Generator | None], Tensor]
    expected: Callable[[Tensor], Tensor]


RewardName = Literal["log_likelihood", "zero_one"]

REWARDS: Mapping[RewardName, Reward] = {  # the expectation is of log p(target)
    "log_likelihood": Reward(negative_log_likelihood, lambda log_probability: -log_probability),
    "zero_one": Reward(zero_one, lambda log_probability: -log_probability.exp()),
}


class SignalGame(nn.Module):
    """The referential signaling game: one message for a target that the receiver must find among distractors.

    A game has ``candidates`` distinct concepts and one image of each. The sender sees the target's image; the receiver sees
    all images, shuffled, and the message. The objective is ``E_q[loss] - entropy_coefficient * H(q)``, q the sender's
    distribution over messages. Games are drawn afresh for training; validation and test games are the same for every run.

    Args:
        data: image features.
        vocabulary_size: number of messages, K.
        candidates: images that the receiver sees, the target among them.
        entropy_coefficient: weight of the entropy bonus, per nat; it decides how many messages come into use.
        reward: ``log_likelihood`` of the target; or ``zero_one``, 1 if a candidate sampled by the receiver is the target:
            the reward of a game that is played, for estimators that sample messages.
        sender: the agent that names the target. In Python also what makes one, such as ``partial(MLPSender, hidden_size=8)``.
        receiver: the agent that finds the target among the candidates, likewise.
        validation_fraction: share of each concept's training images kept for validation, at least one image, where the
            data set marks none.
        validation_games: number of validation games.
        test_games: number of test games.

    Raises:
        OptionError: if an option is out of its range.

    References:
        - Lewis (1969), Convention: a philosophical study.
        - Lazaridou, Peysakhovich and Baroni (2017), https://arxiv.org/abs/1612.07182.
        - Correia, Niculae, Aziz and Martins (2020), https://arxiv.org/abs/2007.01919.
    """

    section: ClassVar[str] = "game"
    datasets: ClassVar[Mapping[str, Callable[..., FeatureSet]]] = DATASETS
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("success_rate", "success rate, most likely message", "%", "higher", shown=("summary", "table", "page")),
        Metric("expected_success_rate", "success rate, expected", "%", "higher", ("summary", "table", "page", "validation")),
        Metric(
            "messages_in_use",
            "messages in use",
            shown=("summary", "curve"),
            remark="Messages that are the most likely one of some game.",
        ),
        Metric("loss", "loss", better="lower", shown=()),
    )
    headline: ClassVar[str] = "success_rate"
    features: Tensor

    def __init__(
        self,
        data: FeatureSet,
        *,
        vocabulary_size: int = 256,
        candidates: int = 16,
        entropy_coefficient: float = 0.0,
        reward: RewardName = "log_likelihood",
        sender: SenderPart = "mlp",
        receiver: ReceiverPart = "dot_product",
        validation_fraction: float = 0.1,
        validation_games: int = 1024,
        test_games: int = 4096,
    ) -> None:
        super().__init__()
        sizes = {"vocabulary_size": vocabulary_size, "validation_games": validation_games, "test_games": test_games}
        for option, size in sizes.items():
            check_size(option, size)
        if entropy_coefficient < 0:
            raise OptionError("entropy_coefficient", f"must not be negative, got {entropy_coefficient}")
        if not 0 < validation_fraction < 1:
            raise OptionError("validation_fraction", f"must lie between 0 and 1, got {validation_fraction}")
        data = data.with_validation(validation_fraction)
        samplers = {split: GameSampler(data, split, candidates) for split in ("train", "validation", "test")}
        self.games = samplers["train"]
        self.fixed_games = {  # seeds of their own: the same games for every estimator and every run
            "val": samplers["validation"].draw(validation_games, _fixed_generator("validation games")),
            "test": samplers["test"].draw(test_games, _fixed_generator("test games")),
        }
        self.fingerprint = data.fingerprint
        self.register_buffer("features", data.features, persistent=False)
        self.vocabulary_size = vocabulary_size
        self.candidates = candidates
        self.entropy_coefficient = entropy_coefficient
        self.reward: RewardName = reward
        self.sender = SENDERS.make("sender", sender, data.features.shape[1], vocabulary_size)
        self.receiver = RECEIVERS.make("receiver", receiver, data.features.shape[1], vocabulary_size)

    def latent(self) -> Space:
        """An example of the latent variable, which is the message."""
        return Categorical(torch.zeros(1, self.vocabulary_size))

    def check_estimator(self, estimator: Estimator) -> None:
        """Refuse an estimator that cannot train this game.

        Raises:
            OptionError: if the reward is for a sampled action, and the estimator does not sample messages.
        """
        plays = estimator.samples_states and estimator.objective is expected_loss
        if self.reward == "zero_one" and not plays:
            raise OptionError(
                "reward",
                "zero_one is the reward of a game that is played: it needs an estimator that samples messages and whose "
                "objective is the expected loss, such as score_function",
            )

    def pictures(self, estimator: Estimator) -> dict[str, Tensor]:
        """None: a game's images are features."""
        return {}

    def draw(self, batch_size: int, generator: torch.Generator) -> Games:
        """A batch of training games."""
        return self.games.draw(batch_size, generator).to(self.features.device)

    def forward(
        self, games: Games, estimator: Estimator, generator: torch.Generator | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The objective to differentiate, ``[]``, and detached metrics of each game, ``[B]`` each."""
        target = self.features[games.target_image]
        embedded = self.receiver.embed(self.features[games.images])
        decoded: list[tuple[Latents, Tensor]] = []

        def loss_function(messages: Latents) -> Tensor:
            logits = self.receiver(messages, embedded)
            place = messages.gather(games.target)
            decoded.append((messages, logits.detach().argmax(-1) == place))
            return REWARDS[self.reward].loss(logits, place, generator)

        estimate = estimator(Categorical(self.sender(target)), loss_function, context=target, generator=generator)
        objective = estimate.surrogate - self.entropy_coefficient * estimate.entropy
        messages, correct = decoded[-1]  # what the estimate is of; a probe decodes others before
        metrics = {
            "loss": estimate.value,
            "success_rate": messages.sum(estimate.weights * correct),
            "decoder_calls": estimate.decoder_calls,
            "entropy": estimate.entropy.detach(),
            **estimate.metrics,
        }
        return objective.mean() + estimate.auxiliary, metrics

    @torch.no_grad()
    def evaluate(self, split: str, estimator: Estimator) -> Evaluation:
        """Metrics of the fixed games of ``val`` or ``test``, the same for every estimator, and how each game went.

        ``success_rate`` is that of the most likely message; ``expected_success_rate`` and ``loss`` are expectations under the
        estimator's q, exact but for a large vocabulary; ``decoder_calls`` are those that the estimator would make for an
        example; ``messages_in_use`` counts the messages that are the most likely one of some game. Of each game there is the
        ``target``, an image of the data set, the most likely ``message``, and the image that the receiver's ``choice`` is.
        """
        games = self.fixed_games[split]
        # Of a game there are scores of the candidates for each message decoded, and several tensors of all messages.
        scores = max(min(self.vocabulary_size, MOST_DECODED) * self.candidates, 4 * self.vocabulary_size)
        chunk = max(1, MOST_SCORES_AT_ONCE // scores)
        generator = torch.Generator(self.features.device).manual_seed(derived_seed("evaluation", split))
        parts = [
            part
            for games_of_part in zip(*(torch.split(field, chunk) for field in games), strict=True)
            for part in self._measure(Games(*games_of_part).to(self.features.device), estimator, generator)
        ]
        found = Evaluation.of(parts)
        in_use: int = torch.unique(found.examples["message"]).numel()
        found.metrics["messages_in_use"] = in_use
        return found

    def _measure(self, games: Games, estimator: Estimator, generator: torch.Generator) -> list[Measurement]:
        """What games show; in parts, where their messages are too many to be read at once."""
        target = games.target
        found = expectation(estimator, Categorical(self.sender(self.features[games.target_image])), RandomDraws(generator))
        if len(target) > 1 and len(found.pairs) * self.candidates > MOST_SCORES_AT_ONCE:
            halves = zip(*(torch.split(field, -(-len(target) // 2)) for field in games), strict=True)
            return [part for half in halves for part in self._measure(Games(*half), estimator, generator)]
        embedded = self.receiver.embed(self.features[games.images])
        logits = self.receiver(found.pairs, embedded).to(found.weights.dtype)
        place = found.pairs.gather(target)
        correct = (logits.argmax(-1) == place).double()
        log_probability = logits.log_softmax(-1).gather(1, place.unsqueeze(1))[:, 0]
        loss = REWARDS[self.reward].expected(log_probability)
        choice = self.receiver(found.most_likely, embedded).argmax(-1)
        metrics = {
            "success_rate": choice == target,
            "expected_success_rate": found.of(correct),
            "loss": found.of(loss),
            "decoder_calls": found.decoder_calls,
            "entropy": found.entropy,
        }
        assert isinstance(found.most_likely, Latents)
        examples = {
            "target": games.target_image,
            "message": found.most_likely.value.argmax(-1),
            "choice": games.images.gather(1, choice.unsqueeze(1))[:, 0],
        }
        return [Measurement(metrics, found.variances(expected_success_rate=correct, loss=loss), examples)]
