"""Parts inside parts, at any depth, and which parts of other distributions are taken."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import pytest
from pydantic import ValidationError

from estimators import OptionError
from estimators.parts import Registry
from games import SignalGame
from games.agents import RECEIVERS, SENDERS, Agent, DotProductReceiver, MLPSender, Receiver, Sender
from games.datasets import DATASETS, FeatureSet
from games.datasets.synthetic import synthetic
from latent.datasets import DATASETS as IMAGES
from latent.datasets import ImageSet
from latent.experiment import options, parts
from latent.experiment.options import bound, choices, default_names, options_model
from latent.experiment.tracking import estimator_label

WORDS: Registry = Registry("word", {})


class Plain:
    """A word.

    Args:
        letters: how many.
    """

    def __init__(self, size, *, letters: int = 3):
        if letters < 1:
            raise OptionError("letters", "must be at least 1")
        self.size, self.letters = size, letters


class Doubled:
    """A word that holds another."""

    def __init__(self, size, *, inner: Annotated[str | Callable[[int], object], WORDS] = "plain", times: int = 2):
        self.inner = WORDS.make("inner", inner, size * times)


class Text:
    """What holds a word."""

    def __init__(self, size, *, word: Annotated[str | Callable[[int], object], WORDS] = "doubled"):
        self.word = WORDS.make("word", word, size)


WORDS.parts.update(plain=Plain, doubled=Doubled)
MODEL = options_model(Text)
DEEP = {"word": {"inner": {"name": "doubled", "times": 5, "inner": {"letters": 7}}}}


def test_options_nest_at_any_depth_also_in_a_part_of_the_same_kind():
    assert MODEL().model_dump() == {"word": {"name": "doubled", "inner": {"name": "plain", "letters": 3}, "times": 2}}
    made = bound(MODEL.model_validate(DEEP))(1)
    assert (made.word.inner.inner.size, made.word.inner.inner.letters) == (10, 7)
    assert default_names(MODEL) == {"word": {"name": "doubled", "inner": {"name": "plain"}}}
    assert {key for key, _ in choices(MODEL)} == {"word", "word.inner", "word.inner.inner"}
    assert MODEL.model_json_schema()["$defs"].keys() == {"Plain", "Doubled"}


def test_a_mistake_deep_inside_has_its_whole_path():
    with pytest.raises(ValidationError) as caught:
        MODEL.model_validate({"word": {"inner": {"name": "doubled", "inner": {"leters": 7}}}})
    assert caught.value.errors()[0]["loc"][-1] == "leters"
    DEEP["word"]["inner"]["inner"] = {"letters": 0}
    with pytest.raises(OptionError, match=r"word\.inner\.inner\.letters: must be at least 1"):
        bound(MODEL.model_validate(DEEP))(1)
    with pytest.raises(OptionError, match=r"word\.inner\.letters: must"):
        Text(1, word=partial(Doubled, inner=partial(Plain, letters=0)))


def test_a_label_has_the_options_of_parts_inside_that_are_not_at_their_defaults(monkeypatch):
    monkeypatch.setattr(parts, "estimators", lambda: {"text": Text})
    for given, words in (
        ({}, "text"),
        ({"word": {"inner": {"letters": 7}}}, "text word.inner.letters=7"),
        ({"word": "plain"}, "text word.name=plain word.letters=3"),
    ):
        assert estimator_label({"name": "text", **MODEL.model_validate(given).model_dump()}) == words


def test_the_default_of_a_part_inside_a_part_must_be_a_name():
    def text(size, *, word: Annotated[str | Callable[[int], object], WORDS] = Plain):
        """What holds a word."""

    with pytest.raises(TypeError, match="the option 'word' is a word: its default must be a name"):
        options_model(text)


def test_agents_are_given_by_name_by_class_or_with_options():
    data = synthetic(concepts=10, images=8, size=6)
    games = {"validation_games": 2, "test_games": 2, "candidates": 3}
    for sender, size in (("mlp", 256), (MLPSender, 256), (partial(MLPSender, hidden_size=5), 5)):
        assert SignalGame(data, sender=sender, **games).sender.layers[0].out_features == size
    with pytest.raises(OptionError, match="sender: there is no sender 'mpl'; did you mean 'mlp'"):
        SignalGame(data, sender="mpl", **games)


class Entry:
    def __init__(self, name, part):
        self.name, self.value, self.part = name, f"elsewhere:{name}", part

    def load(self):
        return self.part


class Shouting(Sender):
    """A sender."""


def listening(features: int, vocabulary_size: int, *, hidden_size: int = 3) -> Receiver:
    """A receiver."""
    return DotProductReceiver(features, vocabulary_size, hidden_size=hidden_size)


class Neither(Agent):
    """An agent."""


def unsaid(features: int, vocabulary_size: int):
    """An agent, perhaps."""


def small(*, concepts: int = 4) -> FeatureSet:
    """Concepts."""
    return synthetic(concepts=concepts)


@dataclass(frozen=True, eq=False)
class Coloured(ImageSet):
    """Images of another kind."""


def pictures() -> Coloured:
    """Images."""


@pytest.fixture
def of_others(monkeypatch):
    """A registry's parts beside those that entry points would add."""

    def look(registry, **entries):
        monkeypatch.setattr(options, "entry_points", lambda group: [Entry(*each) for each in entries.items()])
        options._of_others.cache_clear()
        own = Registry(registry.kind, registry, makes=registry.makes, group=registry.group, family=registry.family)
        return set(options.available(own)) - set(registry)

    yield look
    options._of_others.cache_clear()


def test_senders_and_receivers_are_told_apart_by_what_they_make(of_others, caplog):
    agents = {
        "shouting": Shouting,
        "listening": listening,
        "neither": Neither,
        "unsaid": unsaid,
        "mlp": Shouting,
        "game": SignalGame,
    }
    assert of_others(SENDERS, **agents) == {"shouting"}
    assert of_others(RECEIVERS, **agents) == {"listening"}
    assert "mlp: the entry point 'elsewhere:mlp' is ignored: its name is taken" in caplog.text
    for name in ("unsaid", "game"):
        assert f"{name}: the entry point 'elsewhere:{name}' cannot be used: TypeError: it makes no Agent" in caplog.text


def test_data_sets_are_for_the_tasks_whose_kind_they_make(of_others, caplog):
    sets = {"small": small, "pictures": pictures, "unsaid": unsaid}
    assert of_others(DATASETS, **sets) == {"small"}
    assert of_others(IMAGES, **sets) == {"pictures"}
    assert "unsaid: the entry point 'elsewhere:unsaid' cannot be used: TypeError: it makes no DataSet" in caplog.text
