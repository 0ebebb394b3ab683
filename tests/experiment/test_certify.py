"""``latent certify``: the table, JSON, bad input, and estimators of other distributions."""

import json

import pytest
from typer.testing import CliRunner

import estimators
from estimators import ScoreFunction, StraightThrough
from estimators.certificates.catalogue import Entry, catalogue
from estimators.certificates.problems import family
from estimators.parts import Registry
from latent.commands.main import app
from latent.experiment import certificates, options, parts


def call(*arguments):
    result = CliRunner().invoke(app, ["certify", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def entry_point(monkeypatch):
    """Make an estimator known as another distribution's entry point would."""

    def add(name, part):
        found = {**estimators.ESTIMATORS, name: part}
        monkeypatch.setattr(parts, "estimators", lambda: found)

    return add


def test_a_table_for_each_kind_of_latent():
    result = call("dense", "reinmax")
    assert result.exit_code == 0
    assert "categorical latent" in result.stdout
    assert "bit_vector latent" in result.stdout
    assert "proved" in result.stdout
    assert "no: pinned" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_json_holds_every_certificate():
    result = call("score_function", "samples=2", "baseline=leave_one_out", "--json")
    row, *others = json.loads(result.stdout)
    assert [other["latent"] for other in others] == ["bit_vector", "categoricals"]
    assert all(other["verdict"] == "proved" for other in others)
    assert row["latent"] == "categorical"
    assert row["estimator"] == "score_function samples=2 baseline=leave_one_out"
    assert row["verdict"] == "proved"
    assert row["passed"]
    assert [certificate["problem"] for certificate in row["certificates"]] == [each.name for each in family("categorical")]
    for certificate in row["certificates"]:
        assert certificate["method"] == "enumeration"
        assert certificate["encoder"]["bias"] < 1e-10
        assert certificate["calls"] == pytest.approx(2)
    assert row["calls"] == pytest.approx(2)
    products = sorted(certificate["encoder"]["variance"] * 2 for certificate in row["certificates"])
    assert row["variance_calls"] == pytest.approx((products[5] + products[6]) / 2)


def test_names_alone_stand_for_the_catalogue_and_nothing_for_all():
    assert certificates.entries([]) == list(catalogue())
    every = ("categorical", "bit_vector", "categoricals")
    assert certificates.entries(["arms", "entmax"]) == [
        ("arms", {"samples": 3}, "bit_vector"),
        *(("entmax", {}, latent) for latent in every),
        *(("entmax", {"learned": True}, latent) for latent in every),
    ]
    assert certificates.entries(["arms", "samples=4", "dense"])[0] == ("arms", {"samples": 4}, "bit_vector")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rienmax"], "there is no 'rienmax'; did you mean 'reinmax'?"),
        (["arms", "sample=3"], "sample: arms has no such option; its options: samples"),
        (["sparsemax", "k=3"], "k: sparsemax has no such option; its options: none"),
        (["arms", "samples=1"], "samples: must be at least 2, got 1"),
        (["arms", "samples=many"], "samples: Input should be a valid integer, got 'many'"),
        (["samples=2"], "samples: an option follows the name of its estimator"),
        (["arms", "samples=["], "this is not YAML"),
    ],
)
def test_bad_input_is_explained(arguments, message):
    result = call(*arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
    assert "Traceback" not in result.output
    assert not result.stdout


def test_an_estimator_of_another_distribution_is_certified_by_its_name(entry_point):
    class Elsewhere(ScoreFunction):  # type: ignore[misc]
        """An estimator of another distribution."""

    entry_point("elsewhere", Elsewhere)
    result = call("elsewhere")
    assert result.exit_code == 0
    assert "proved" in result.stdout
    assert ("elsewhere", {}, "categorical") in certificates.entries([])


def test_an_estimator_that_is_not_what_it_declares_fails(entry_point):
    class Overconfident(StraightThrough):  # type: ignore[misc]
        """Declares that it is unbiased."""

        unbiased = True

    class Honest(StraightThrough):  # type: ignore[misc]
        """Of unknown bias."""

    entry_point("overconfident", Overconfident)
    result = call("overconfident")
    assert result.exit_code == 1
    assert "BIASED" in result.stdout
    assert "not what it declares: overconfident: BIASED: quadratic/flat" in " ".join(result.stderr.split())
    entry_point("honest", Honest)
    result = call("honest")
    assert result.exit_code == 0
    assert "no: measured" in result.stdout


def test_estimators_from_elsewhere_that_cannot_be_made_or_run_are_named_and_the_rest_go_on(entry_point, monkeypatch):
    class Raises(ScoreFunction):  # type: ignore[misc]
        """Cannot be made."""

        def __init__(self, *, size: int = 3):
            raise RuntimeError("no such size")

    class Needs(ScoreFunction):  # type: ignore[misc]
        """Needs an option."""

        def __init__(self, *, size: int):
            super().__init__()

    class Fails(ScoreFunction):  # type: ignore[misc]
        """Fails where it is used."""

        def propose(self, scores, draws, context=None):
            raise RuntimeError("a broken part")

    monkeypatch.setattr(certificates, "catalogue", lambda: (Entry("dense", {}, "categorical"),))
    for part, message, code in (
        (Raises, "elsewhere cannot be made: RuntimeError: no such size", 2),
        (Needs, "size: elsewhere needs this option: latent certify elsewhere size=VALUE", 2),
        (Fails, "elsewhere failed on the problem linear/flat of a categorical latent: RuntimeError: a broken part", 1),
    ):
        entry_point("elsewhere", part)
        alone = call("elsewhere")
        assert (alone.exit_code, message in " ".join(alone.stderr.split())) == (code, True), alone.stderr
        everything = call()
        assert everything.exit_code == 1
        assert message in " ".join(everything.stderr.split())
        assert "dense" in everything.stdout


def test_entry_points_that_cannot_be_used_are_left_out_with_a_warning(monkeypatch, caplog):
    class Entry:
        def __init__(self, name, part):
            self.name, self.value, self.part = name, f"elsewhere:{name}", part

        def load(self):
            if isinstance(self.part, Exception):
                raise self.part
            return self.part

    class Positional(ScoreFunction):  # type: ignore[misc]
        """An option that is not keyword-only."""

        def __init__(self, temperature: float = 1.0):
            super().__init__()

    class Untyped(ScoreFunction):  # type: ignore[misc]
        """An option without a type."""

        def __init__(self, *, temperature=1.0):
            super().__init__()

    entries = [
        Entry("gone", AttributeError("it is gone")),
        Entry("positional", Positional),
        Entry("untyped", Untyped),
        Entry("dense", ScoreFunction),
        Entry("sound", ScoreFunction),
    ]
    monkeypatch.setattr(options, "entry_points", lambda group: entries)
    found = options.available(Registry("estimator", estimators.ESTIMATORS, group="discrete_latent.of_this_test"))
    assert set(found) - set(estimators.ESTIMATORS) == {"sound"}
    assert found["dense"] is estimators.ESTIMATORS["dense"]
    for message in ("it is gone", "must be keyword-only", "untyped: the entry point", "its name is taken"):
        assert message in caplog.text


def test_certificates_are_the_same_every_time():
    assert call("rebar", "--json").stdout == call("rebar", "--json").stdout
