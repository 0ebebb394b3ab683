"""Configurations: what is read, merged and overridden, and where each mistake is said to be."""

import json

import jsonschema
import pytest
import yaml

from latent.experiment.configuration import load
from latent.experiment.options import describe, options_model
from latent.experiment.overrides import parse_override
from latent.experiment.settings import json_schema, places
from latent.experiment.yaml_source import ConfigurationError, Mark, parse, read
from tests.conftest import ROOT

CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
EXPERIMENTS = [path for path in CONFIGS if path.parent.name != "sweeps"]
GAME_OF_THE_USER = ROOT / "configs" / "signal_game" / "published.yaml"


def problem(text, tmp_path, *overrides):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        load(path, list(overrides))
    return str(caught.value).replace(str(path), "bad.yaml")


BASE = "task: signal_game\nestimator: {name: gumbel_softmax}\ndata: {name: synthetic}\n"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E3", 1000.0),
        ("-.5", -0.5),
        (".inf", float("inf")),
        ("-.Inf", float("-inf")),
        ("12", 12),
        ("0x1F", 31),
        ("0o17", 15),
        ("010", 10),
        ("no", "no"),
        ("on", "on"),
        ("1:30", "1:30"),
        ("true", True),
        ("null", None),
        ("", None),
        ("'1e-3'", "1e-3"),
        ("[1, {a: b}]", [1, {"a": "b"}]),
    ],
)
def test_scalars_follow_yaml_1_2(text, value):
    found = parse(f"key: {text}", "here").data["key"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_configuration_of_the_repository_loads(path):
    overrides = ["data.path=somewhere"] if path == GAME_OF_THE_USER else []
    overrides += ["estimator.name=dense"] if path.name == "base.yaml" else []
    configuration = load(path, overrides)
    assert configuration.data["task"] == path.parent.name


def test_a_sweep_of_several_files_is_no_experiment():
    with pytest.raises(ConfigurationError, match=r"emoji.yaml:3:3: this is a sweep of several files; latent sweep runs it"):
        load(ROOT / "configs" / "sweeps" / "emoji.yaml", [])


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_configuration_follows_the_schema(path):
    if path != GAME_OF_THE_USER:  # its data set needs a path, which it leaves to the user
        validator = jsonschema.Draft202012Validator(json_schema())
        assert list(validator.iter_errors(parse(path.read_text(), path.name).data)) == []


def test_the_schema_refuses_what_the_loader_refuses():
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    json.dumps(schema)
    good = {"task": "signal_game", "estimator": {"name": "entmax", "alpha": 1.5, "learned": False}, "data": {"name": "emoji"}}
    for whole in (good, good | {"game": {"sender": "published"}}, good | {"train": {"optimizer": {"momentum": 0.3}}}):
        jsonschema.validate(whole, schema)
    for bad in (
        good | {"estimator": {"name": "entmax", "beta": 1.5}},
        good | {"estimator": {"name": "entmaxx"}},
        good | {"trian": {}},
        good | {"train": {"steps": "many"}},
        good | {"game": {"sender": "mpl"}},
        good | {"game": {"sender": {"name": "mlp", "momentum": 0.3}}},
        good | {"train": {"optimizer": {"name": "adam", "momentum": 0.3}}},
        good | {"data": "features"},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(bad, schema)


def test_defaults_come_from_the_constructors(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(BASE)
    data = load(path, []).data
    assert data["estimator"] == {
        "name": "gumbel_softmax",
        "temperature": 1.0,
        "minimum_temperature": 0.5,
        "decay_rate": 1e-5,
        "update_every": 1000,
        "straight_through": False,
    }
    assert data["game"]["vocabulary_size"] == 256
    assert data["train"]["batch_size"] == 64


def test_every_option_is_documented():
    for name, part in [item for place in places() for item in place.parts.items()]:
        assert describe(part), name
        for option, field in options_model(part).model_fields.items():
            assert field.description, f"{name}.{option}"


def test_extends_merges_blocks_and_a_new_name_replaces_them(tmp_path):
    (tmp_path / "base.yaml").write_text(BASE + "game: {candidates: 4}\n")
    child = tmp_path / "child.yaml"
    child.write_text("extends: base.yaml\nestimator: {temperature: 0.7}\ngame: {vocabulary_size: 9}\n")
    data = load(child, []).data
    assert (data["estimator"]["name"], data["estimator"]["temperature"]) == ("gumbel_softmax", 0.7)
    assert (data["game"]["candidates"], data["game"]["vocabulary_size"]) == (4, 9)
    grandchild = tmp_path / "grandchild.yaml"
    grandchild.write_text("extends: child.yaml\nestimator: {name: entmax}\n")
    assert load(grandchild, []).data["estimator"] == {"name": "entmax", "alpha": 1.5, "learned": False}


def test_a_name_alone_is_a_block_with_that_name(tmp_path):
    (tmp_path / "base.yaml").write_text("task: signal_game\nestimator: entmax\ndata: synthetic\ngame: {sender: published}\n")
    child = tmp_path / "child.yaml"
    child.write_text("extends: base.yaml\nestimator: {alpha: 1.7}\ngame: {sender: {hidden_size: 9}}\n")
    data = load(child, []).data
    assert data["estimator"] == {"name": "entmax", "alpha": 1.7, "learned": False}
    assert data["data"]["name"] == "synthetic"
    assert data["game"]["sender"] == {"name": "published", "hidden_size": 9}
    assert load(child, ["game.sender=published"]).data == data, "the same name leaves the block as it is"
    assert load(child, ["game.sender=mlp"]).data["game"]["sender"] == {"name": "mlp", "hidden_size": 256}


def test_another_name_replaces_the_block_of_a_part_inside_a_part(tmp_path):
    """Also where the parent's block is about the default, which it need not name."""
    (tmp_path / "base.yaml").write_text(BASE + "game: {sender: {hidden_size: 9}}\ntrain: {optimizer: {weight_decay: 0.3}}\n")
    child = tmp_path / "child.yaml"
    child.write_text("extends: base.yaml\ngame: {sender: {name: published}}\ntrain: {optimizer: sgd}\n")
    assert load(tmp_path / "base.yaml", []).data["game"]["sender"] == {"name": "mlp", "hidden_size": 9}
    data = load(child, []).data
    assert data["game"]["sender"] == {"name": "published", "hidden_size": 256}
    assert data["train"]["optimizer"] == {"name": "sgd", "momentum": 0.0, "nesterov": False, "weight_decay": 0.0}
    assert load(tmp_path / "base.yaml", ["train.optimizer.name=sgd"]).data["train"] == data["train"]
    kept = load(tmp_path / "base.yaml", ["train.optimizer.name=adam"]).data["train"]["optimizer"]
    assert (kept["name"], kept["weight_decay"]) == ("adam", 0.3)


def test_an_override_names_a_part_and_others_set_its_options(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(BASE + "game: {sender: {name: mlp, hidden_size: 9}}\n")
    for order in (1, -1):
        data = load(path, ["game.sender=published", "game.sender.hidden_size=128"][::order]).data
        assert data["game"]["sender"] == {"name": "published", "hidden_size": 128}


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_complete_configuration_reads_back_as_itself(path, tmp_path):
    overrides = ["data.path=somewhere"] if path == GAME_OF_THE_USER else []
    overrides += ["estimator=dense"] if path.name == "base.yaml" else []
    data = load(path, overrides).data
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(data, sort_keys=False))
    assert load(tmp_path / "config.yaml", []).data == data
    jsonschema.validate(data, json_schema())


def test_overrides_win_in_any_order(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(BASE + "train: {steps: 5}\n")
    data = load(path, ["estimator.alpha=1.7", "estimator.name=entmax", "train.learning_rate=1e-3", "seed=3"]).data
    assert data["estimator"] == {"name": "entmax", "alpha": 1.7, "learned": False}
    assert (data["train"]["steps"], data["train"]["learning_rate"], data["seed"]) == (5, 1e-3, 3)


def test_an_error_in_a_base_file_names_the_base_file(tmp_path):
    (tmp_path / "base.yaml").write_text(BASE + "train:\n  stpes: 3\n")
    child = tmp_path / "child.yaml"
    child.write_text("extends: base.yaml\nseed: 1\n")
    with pytest.raises(ConfigurationError) as caught:
        load(child, [])
    assert caught.value.problems[0][0] == Mark(str(tmp_path / "base.yaml"), 5, 3, "  stpes: 3")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (BASE + "trian: {}\n", "bad.yaml:4:1: trian: unknown key 'trian'; did you mean 'train'?"),
        (BASE + "train:\n  stepz: 1\n", "bad.yaml:5:3: train.stepz: unknown key 'stepz'; did you mean 'steps'?"),
        (BASE + "train:\n  steps: many\n", "bad.yaml:5:3: train.steps: must be a valid integer, got 'many'"),
        (BASE + "train:\n  steps: 0\n", "bad.yaml:5:3: train.steps: must be greater than or equal to 1, got 0"),
        (BASE + "train:\n  steps: 1.5\n", "bad.yaml:5:3: train.steps: must be a valid integer, got 1.5"),
        (BASE + "train:\n  learning_rate: .nan\n", "bad.yaml:5:3: train.learning_rate: must be a finite number"),
        (BASE + "train: adam\n", "bad.yaml:4:1: train: must be a block of keys, got 'adam'"),
        (
            BASE + "game:\n  sender: mpl\n",
            "bad.yaml:5:3: game.sender.name: there is no sender 'mpl'; did you mean 'mlp'?; one of: ",
        ),
        (
            BASE + "game:\n  sender:\n    name: 3\n",
            "bad.yaml:6:5: game.sender.name: there is no sender 3; one of: mlp, published",
        ),
        (
            BASE + "game:\n  sender: [mlp]\n",
            "bad.yaml:5:3: game.sender must be a block with a name, such as 'sender: {name: mlp}', or",
        ),
        (
            BASE + "game:\n  sender:\n    name: published\n    hiden_size: 1\n",
            "bad.yaml:7:5: game.sender.hiden_size: unknown key 'hiden_size'; did you mean 'hidden_size'?; keys in game.sender",
        ),
        (
            BASE + "game:\n  sender:\n    hidden_size: x\n",
            "bad.yaml:6:5: game.sender.hidden_size: must be a valid integer, got 'x'",
        ),
        (
            BASE + "game:\n  hidden_size: 3\n",
            "bad.yaml:5:3: game.hidden_size: unknown key 'hidden_size'; did you mean 'sender.hidden_",
        ),
        (BASE + "train:\n  weight_decay: 0\n", "did you mean 'optimizer.weight_decay'?"),
        (BASE + "train:\n  optimizer: {name: sgd, beta1: 0.3}\n", "bad.yaml:5:26: train.optimizer.beta1: unknown key 'beta1'"),
        (BASE + "train:\n  schedule: cosin\n", "train.schedule.name: there is no schedule 'cosin'; did you mean 'cosine'?"),
        (BASE.replace("{name: gumbel_softmax}", "dens"), "bad.yaml:2:1: estimator.name: there is no estimator 'dens'"),
        (BASE + "train: 3\n", "bad.yaml:4:1: train: must be"),
        (BASE + "seed: 1\nseed: 2\n", "bad.yaml:5:1: the key 'seed' is given twice; the first time in line 4"),
        (BASE + "seed: true\n", "bad.yaml:4:1: seed: must be a valid integer, got True"),
        (BASE.replace("gumbel_softmax", "gumble_softmax"), "did you mean 'gumbel_softmax'?"),
        (BASE.replace("synthetic", "syntetic"), "there is no data set 'syntetic'; did you mean 'synthetic'?"),
        (BASE.replace("signal_game", "signal"), "bad.yaml:1:1: task: there is no task 'signal'"),
        ("seed: 1\n", "task is missing; one of: signal_game"),
        ("task: signal_game\ndata: {name: emoji}\n", "estimator.name is missing; one of: dense, sparsemax"),
        (BASE.replace("synthetic", "features"), "bad.yaml:3:1: data.path is missing"),
        (BASE + "device: tpu\n", "bad.yaml:4:1: device: cpu, cuda, or one of several as in cuda:1; must match"),
        (BASE + "experiment: ../up\n", "bad.yaml:4:1: experiment: Name of the folder that groups runs to compare; must match"),
        ("- a\n- b\n", "bad.yaml:1:1: must be a mapping of keys to values, but it is a list"),
        ("just words\n", "bad.yaml:1:1: must be a mapping"),
        ("", "task is missing"),
        ("a: [1, 2\n", "this is not YAML"),
        ("a: b: c\n", "bad.yaml:1:5: this is not YAML"),
        ("a: 1\n--- \nb: 2\n", "this is not YAML"),
        ("a: !!python/object/apply:os.system ['true']\n", "bad.yaml:1:4: the tag"),
        ("a: !!python/name:os.system x\n", "bad.yaml:1:4: the tag"),
        ("a: !!int many\n", "bad.yaml:1:4: 'many' is not a int"),
        ("a: &x {b: 1}\nc:\n  <<: *x\n", "bad.yaml:3:3: merge keys are not read"),
        ("a: &x [*x]\n", "nested deeper than"),
        ("? [a, b]\n: 1\n", "a key must be a plain word"),
        ("a: \x00\n", "this is not YAML"),
        (BASE.replace("{name: gumbel_softmax}", "3"), "bad.yaml:2:1: estimator must be a block with a name"),
        (BASE.replace("{name: synthetic}", "[1]"), "bad.yaml:3:1: data must be a block with a name"),
        (BASE + "game:\n", "bad.yaml:4:1: game: must be a block of keys, got None"),
        (BASE + "seed: 123456789012345678901\n", "bad.yaml:4:7: a whole number of more than 18 digits"),
        (BASE + "train: {learning_rate: .NaN}\n", "must be a finite number"),
        (BASE + "!x seed: 1\n", "a key must be a plain word"),
        (BASE + f"experiment: {'x y' * 900}\n", "..."),
        ('extends: "a\\0b"\n', "extends: there is no file"),
        (f"extends: {'x' * 5000}\n", "extends: there is no file"),
        ("extends: 3\n", "bad.yaml:1:1: extends: must name a file, got 3"),
        ("extends: none.yaml\n", "bad.yaml:1:1: extends: there is no file"),
        ("extends: bad.yaml\n", "bad.yaml:1:1: extends: bad.yaml extends this file in turn"),
    ],
)
def test_mistakes_are_located_and_explained(tmp_path, text, expected):
    assert expected in problem(text, tmp_path)


def test_all_mistakes_are_reported_at_once(tmp_path):
    message = problem(BASE + "seed: x\ntrain: {steps: y}\nnope: 1\n", tmp_path)
    assert len(message.splitlines()) == 3


def test_an_alias_bomb_is_refused_at_once(tmp_path):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    assert "values once aliases are expanded; refused" in problem("\n".join(lines), tmp_path)


def test_ordinary_anchors_are_read():
    assert parse("a: &x {b: 1}\nc: *x\n", "here").data == {"a": {"b": 1}, "c": {"b": 1}}


def test_deep_nesting_is_refused(tmp_path):
    assert "refused" in problem("a: " + "[" * 200 + "]" * 200, tmp_path)
    assert "this is not YAML" in problem("a: " + "[" * 100_000, tmp_path)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.steps", "command line, 'train.steps': an override is written KEY=VALUE"),
        ("=3", "an override is written KEY=VALUE"),
        ("train..steps=3", "an override is written KEY=VALUE"),
        ("train.stpes=3", "command line, 'train.stpes=3': train.stpes: unknown key 'stpes'; did you mean 'steps'?"),
        ("train.steps=ten", "train.steps: must be a valid integer, got 'ten'"),
        ("train.steps=[", "command line, 'train.steps=[': this is not YAML"),
        ("seed.x=1", "command line, 'seed.x=1': seed: must be a valid integer"),
        ("seed=3\nfoo: 4", "an override sets one key"),
        ("estimator.name=dense ", ""),
    ],
)
def test_overrides_are_checked_like_files(tmp_path, override, expected):
    if expected:
        assert expected in problem(BASE, tmp_path, override)
    else:
        assert parse_override(override)[1].data == {"estimator": {"name": "dense"}}


@pytest.mark.parametrize(
    "overrides",
    [
        ["seed=3", "seed=4"],
        ["train=3", "train.steps=4"],
        ["train.steps=4", "train=null"],
        ["game.sender=mlp", "game.sender.name=published"],
        ["game.sender={name: mlp}", "game.sender.hidden_size=3"],
    ],
)
def test_overrides_that_contradict_each_other_are_refused(tmp_path, overrides):
    assert "cannot both be given" in problem(BASE, tmp_path, *overrides)


def test_a_mistake_beside_an_override_is_not_blamed_on_it(tmp_path):
    message = problem(BASE + "game:\n  candidatez: 3\n", tmp_path, "game.vocabulary_size=3")
    assert message.startswith("bad.yaml:5:3: game.candidatez")


def test_files_from_an_editor_with_a_byte_order_mark_and_dos_line_ends_are_read(tmp_path):
    path = tmp_path / "dos.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + BASE.replace("\n", "\r\n").encode())
    assert load(path, []).data["task"] == "signal_game"


def test_files_that_extend_each_other_without_end_are_refused(tmp_path):
    for i in range(50):
        (tmp_path / f"{i}.yaml").write_text(f"extends: {i + 1}.yaml\n")
    (tmp_path / "50.yaml").write_text(BASE)
    with pytest.raises(ConfigurationError, match="more than 32 files"):
        load(tmp_path / "0.yaml", [])


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigurationError, match="No such file"):
        read(tmp_path / "none.yaml")
    with pytest.raises(ConfigurationError, match="Is a directory"):
        read(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"a: \xff\xfe\n")
    with pytest.raises(ConfigurationError, match="not UTF-8"):
        read(tmp_path / "latin.yaml")
    (tmp_path / "big.yaml").write_text("# " + "x" * (1 << 20))
    with pytest.raises(ConfigurationError, match="larger than"):
        read(tmp_path / "big.yaml")


def test_the_digest_covers_what_decides_the_results(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("task: signal_game\nestimator: {name: dense}\ndata: {name: features, path: x}\n")

    def digest(*overrides, content="c"):
        return load(path, list(overrides)).digest(content)

    assert digest() == digest("seed=9", "experiment=e", "data.path=y", "tracking.project=p", "train.checkpoint_every=3")
    different = {digest(), digest("train.steps=1"), digest("data.normalise=true"), digest(content="d")}
    assert len(different | {digest("estimator.name=sparsemax"), digest("device=cuda")}) == 6
    assert digest("device=cuda") == digest("device=cuda:0") == digest("device=cuda:1")
