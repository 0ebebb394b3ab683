"""Runs in Weights & Biases: what an export holds, read back with W&B's own commands; each run once; workspaces as saved."""

import json
import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
import wandb
import yaml
from PIL import Image
from typer.testing import CliRunner

from latent.commands.main import app
from latent.experiment import tracking
from latent.experiment.run_directory import RunDirectory
from latent.experiment.tracking import WandbSink
from latent.reports.runs import read_runs
from latent.reports.wandb import export as wandb_export
from latent.reports.wandb import notes as wandb_notes
from latent.reports.wandb import workspace as wandb_workspace
from latent.reports.wandb.export import Server
from tests.conftest import ROOT
from tests.experiment.test_tracking import KEY, WANDB, inspect, records
from tests.reports.made_runs import write_run

NIL = {"name": "score_function", "baseline": "none", "samples": 1}
CRITIC = {"name": "score_function", "baseline": "self_critic", "samples": 1}


def finished(folder, estimator, seed=0, digest="0123abcd", task="signal_game", grid=None, pictures=(), seconds=1.5, probe=0):
    """The directory of a run of three rows, with pictures at these steps."""
    settings = {
        **{"train.steps": 30, "train.learning_rate": 0.1, "train.probe_every": probe},
        "tracking": {"wandb": "disabled", "project": "discrete-latent", "entity": None, "tags": ["mine"]},
    }
    headline = "success_rate" if task == "signal_game" else "elbo"
    rows = [{"step": step, "total_decoder_calls": 64 * step, f"val/{headline}": seed + step / 10} for step in (10, 20, 30)]
    rows[-1] |= {f"test/{headline}": 0.25, "test/decoder_calls": 2.5, "train/decoder_calls": 2.5, "time/seconds": seconds}
    made = {"task": task, "data": "digits", "rows": rows, "grid": grid, "settings": settings, "anew": True, **rows[-1]}
    directory = write_run(folder, estimator, seed, digest, **made)
    directory.pictures.mkdir(exist_ok=True)
    for step in pictures:
        Image.new("L", (4, 4), step).save(directory.pictures / f"samples-{step:07d}.png")
    return directory.path


@pytest.fixture(autouse=True)
def apart(tmp_path, monkeypatch):
    """No account, no key, and no W&B service that an earlier test has started."""
    for name in [name for name in os.environ if name.startswith("WANDB")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.chdir(tmp_path)
    wandb.teardown()
    yield
    wandb.teardown()


@pytest.fixture
def results(tmp_path):
    folder = tmp_path / "results"
    finished(folder, "sparsemax", 0, pictures=(20, 30))
    finished(folder, "sparsemax", 1)
    finished(folder, CRITIC, 0)
    return folder


def latent(*arguments):
    """Run the command line in this process; exceptions other than exits are failures."""
    result = CliRunner().invoke(app, ["wandb", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def export(*arguments, code=0):
    result = latent("export", *arguments)
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


def offline(folder):
    return sorted(folder.glob("*/runs/*/wandb/*/*.wandb"))


def uploads(folder):
    """The files that ``wandb sync`` would upload, as it says itself."""
    command = [*WANDB, "sync", "--dry-run", *folder.glob("*/runs/*/wandb")]
    result = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert result.returncode == 0, result.stderr
    return sorted((folder / line.split()[-1]).resolve() for line in result.stderr.splitlines() if line.endswith(".wandb"))


def notes(directory):
    return json.loads((directory / "wandb.json").read_text())


# Offline.


def test_a_run_read_back(tmp_path):
    """All that live tracking gives: identity, group, tags, configuration, axis, rows in order, pictures, flat summary."""
    directory = finished(tmp_path / "results", CRITIC, 3, pictures=(20, 30))
    output = export(tmp_path / "results", "--mode", "offline", "--project", "mine", "--entity", "me")
    assert "exported offline: 1 run to the project mine" in output
    (file,) = offline(tmp_path / "results")
    (start,) = records(file, "run")
    assert start["run_id"] == "signal_game.score_function-s3-0123abcd"
    assert start["run_group"] == "score_function-0123abcd"
    assert (start["job_type"], start["project"], start["entity"]) == ("signal_game", "mine", "me")
    found = json.loads(inspect(file, "--summary"))
    assert set(found["tags"]) == {"signal_game", "score_function", "digits", "mine"}
    assert found["config"]["estimator.baseline"] == "self_critic"
    assert found["config"]["estimator_label"] == "score_function baseline=self_critic"
    assert found["config"]["tracking.wandb"] == "disabled"
    assert "total_decoder_calls" in json.dumps(records(file, "metric"))
    summary = json.loads((directory / "done.json").read_text())
    for name in ("test/success_rate", "test/decoder_calls", "total_decoder_calls", "time/seconds", "step"):
        assert found["summary"][name] == summary[name]
    sent = [record["item"] for record in records(file, "history")]
    logged = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    assert [{key: row[key] for key in kept} for row, kept in zip(sent, logged, strict=True)] == logged
    assert ["pictures/samples" in json.dumps(row) for row in sent] == [False, True, True]
    shown = {path.read_bytes() for path in file.parent.glob("files/media/images/pictures/*.png")}
    assert shown == {path.read_bytes() for path in (directory / "pictures").iterdir()}


def test_a_second_export_adds_nothing(results):
    first = export(results, "--mode", "offline")
    assert "exported offline: 3 runs" in first
    assert f"wandb sync {results}/signal_game/runs/*/wandb" in first
    before = {path: path.stat().st_mtime_ns for path in results.rglob("*")}
    second = export(results, "--mode", "offline")
    assert "already exported: 3 runs" in second
    assert "exported offline" not in second
    after = {path: path.stat().st_mtime_ns for path in results.rglob("*")}
    assert {path: time for path, time in after.items() if path.is_file()} == {
        path: time for path, time in before.items() if path.is_file()
    }
    assert uploads(results) == offline(results)
    assert len(offline(results)) == 3


def test_the_note_says_what_was_exported_where(results):
    export(results, "--mode", "offline")
    directory = next(results.glob("*/runs/sparsemax-s0-*"))
    (note,) = notes(directory)
    assert note["mode"] == "offline"
    assert note["rows"] == 3
    assert (note["id"], note["project"], note["entity"]) == ("signal_game.sparsemax-s0-0123abcd", "discrete-latent", None)
    assert note["base_url"].startswith("https://")
    assert (directory / "wandb" / note["folder"] / f"run-{note['id']}.wandb").exists()


def test_a_run_that_was_run_anew_is_exported_anew(results):
    export(results, "--mode", "offline")
    old = offline(results)
    directory = finished(results, "sparsemax", 1, seconds=2.5)
    before = notes(directory)
    output = export(results, "--mode", "offline")
    assert "exported offline: 1 run " in output
    assert "already exported: 2 runs" in output
    assert notes(directory) != before
    assert len(notes(directory)) == 1
    waiting = uploads(results)
    assert len(waiting) == 3
    (new,) = set(waiting) - set(old)
    assert new.is_relative_to(directory)
    assert json.loads(inspect(new, "--summary"))["summary"]["time/seconds"] == 2.5


def test_force_exports_again_but_uploads_once(results):
    export(results, "--mode", "offline")
    assert "exported offline: 3 runs" in export(results, "--mode", "offline", "--force")
    assert len(uploads(results)) == 3


def test_two_projects_are_two_exports(results):
    export(results, "--mode", "offline")
    assert "to the project other" in export(results, "--mode", "offline", "--project", "other")
    assert len(uploads(results)) == 6
    assert "already exported: 3 runs" in export(results, "--mode", "offline")


def test_what_live_tracking_left_is_not_uploaded_beside_it(tmp_path):
    """Whether a kill has cut it off or not: an upload replaces the one before it."""
    directory = finished(tmp_path / "results", "dense")
    (run,) = read_runs([tmp_path / "results"])
    live = {**run["configuration"]["tracking"], "wandb": "offline"}
    sink = WandbSink(run["configuration"], directory, run["name"], [{"step": 10}], tracking=live)
    sink.close({}, exit_code=1)
    (left,) = uploads(tmp_path / "results")
    export(tmp_path / "results", "--mode", "offline")
    (new,) = uploads(tmp_path / "results")
    assert new != left
    assert len(records(new, "history")) == 3


def test_what_is_uploaded_waits_no_more(results):
    export(results, "--mode", "offline")
    for file in offline(results):
        file.with_suffix(".wandb.synced").touch()
    assert "wandb sync" not in export(results, "--mode", "offline")


def test_a_killed_export_leaves_nothing_half_done(results):
    """Killed within its second run, with some rows written: the next export finds that one as if nothing had been."""
    program = """
import os, signal
from latent.commands.main import app
from latent.experiment.tracking import WandbSink
calls, log = [], WandbSink.log
def killing(sink, row):
    log(sink, row)
    calls.append(row)
    if len(calls) == 5:
        os.kill(os.getpid(), signal.SIGKILL)
WandbSink.log = killing
app(["wandb", "export", "results", "--mode", "offline"])
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    killed = subprocess.run([sys.executable, "-c", program], cwd=results.parent, env=environment, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(list(results.rglob("wandb.json"))) == 1
    assert len(uploads(results)) == 1
    output = export(results, "--mode", "offline")
    assert "exported offline: 2 runs" in output
    assert "already exported: 1 run " in output
    assert uploads(results) == offline(results)
    assert [len(records(file, "history")) for file in offline(results)] == [3, 3, 3]
    assert not list(results.rglob(".partial"))


def test_an_interrupted_export_says_how_far_it_came(results, monkeypatch):
    real, calls = WandbSink.close, []

    def close(sink, *arguments, **options):
        calls.append(sink)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(sink, *arguments, **options)

    monkeypatch.setattr(WandbSink, "close", close)
    assert "interrupted; 1 run done" in export(results, "--mode", "offline", code=130)
    assert len(uploads(results)) == 1
    assert not list(results.rglob(".partial"))


def test_a_run_that_fails_does_not_keep_the_others(results, monkeypatch):
    real = wandb.Run.log

    def log(run, *arguments, **options):
        if run.id.startswith("signal_game.sparsemax-s0"):
            raise ConnectionError("the service is gone")
        return real(run, *arguments, **options)

    monkeypatch.setattr(wandb.Run, "log", log)
    output = export(results, "--mode", "offline", code=1)
    assert "Weights & Biases failed: the service is gone" in output
    assert "exported offline: 2 runs" in output
    monkeypatch.undo()
    assert "exported offline: 1 run " in export(results, "--mode", "offline")
    assert [len(records(file, "history")) for file in offline(results)] == [3, 3, 3]


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("metrics.jsonl", '{"step": 10}\n', "does not reach step 30"),
        ("metrics.jsonl", '{"loss": 1}\n', "line 1 is no row of metrics"),
        ("metrics.jsonl", "{\n", "is damaged"),
        ("config.yaml", "task: vae\nestimator: {name: dense}\n", "has no seed and no data and no tracking"),
    ],
)
def test_damaged_files_are_errors(results, file, content, words):
    directory = next(results.glob("*/runs/sparsemax-s0-*"))
    (directory / file).write_text(content)
    output = export(results, "--mode", "offline", code=1)
    assert words in output
    assert len(offline(results)) == 2


def test_a_run_in_use_is_left_alone(results):
    with RunDirectory(next(results.glob("*/runs/sparsemax-s0-*"))).locked():
        assert "is in use" in export(results, "--mode", "offline", code=1)
    assert len(offline(results)) == 2


def test_two_exports_at_once_export_each_run_once(results):
    command = [sys.executable, "-m", "latent", "wandb", "export", str(results), "--mode", "offline"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    both = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(2)]
    for process in both:
        process.communicate()
        assert process.returncode in (0, 1)  # 1: a run was in use
    export(results, "--mode", "offline")
    assert len(offline(results)) == 3


def test_nothing_to_export(tmp_path):
    assert "there is no folder" in export(tmp_path / "none", code=2)
    (tmp_path / "empty").mkdir()
    assert "there is no finished run" in export(tmp_path / "empty", code=2)


# Modes.


def test_disabled_says_so(results, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert "WANDB_MODE=disabled" in export(results, code=2)
    assert not offline(results)
    export(results, "--mode", "offline")
    assert len(offline(results)) == 3


@pytest.mark.parametrize(("arguments", "environment"), [((), {}), (("--mode", "online"), {}), ((), {"WANDB_MODE": "online"})])
def test_without_a_key_it_goes_offline_and_says_so(results, monkeypatch, caplog, arguments, environment):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert "exported offline: 3 runs" in export(results, *arguments)
    said = [record.message for record in caplog.records if record.name.startswith("latent")]
    assert said == ["Weights & Biases has no key to go online with; exporting offline"]


def test_without_a_network_it_goes_offline_and_says_so(results, monkeypatch, caplog):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(wandb_export, "API_SECONDS", 1)
    assert "exported offline: 3 runs" in export(results)
    assert sum("cannot be reached" in record.message for record in caplog.records) == 1


def test_wandb_waits_for_no_more_than_half_a_minute():
    settings, _ = tracking.connect()
    assert 0 < max(settings.login_timeout, settings.init_timeout, settings.finish_timeout) <= 30


@pytest.mark.parametrize(("machine", "known"), [("api.wandb.ai", True), ("own.example", False), ("other.example", False)])
def test_a_key_is_looked_for_as_wandb_does(tmp_path, machine, known):
    """Under the host of W&B's server, and for the public one also under the name that it has always had."""
    (tmp_path / "netrc").write_text(f"machine {machine}\n  login user\n  password {KEY}\n")
    assert tracking.has_key(wandb.Settings().base_url) is known
    assert tracking.has_key("https://own.example") is (machine == "own.example")


# Online, with a server that remembers.


class Remembered:
    """W&B's runs on a server, in the place of W&B."""

    def __init__(self, monkeypatch, loses=False):
        self.runs, self.sent, self.loses = {}, [], loses
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        monkeypatch.setattr(wandb, "init", self.init)
        api = SimpleNamespace(default_entity="me", flush=lambda: None, run=self.run)
        monkeypatch.setattr(wandb, "Api", lambda **options: api)
        monkeypatch.setattr(wandb_export, "LOOKS", 1)

    def init(self, *, id, project, entity, mode, resume, **options):
        assert mode == "online"
        assert resume is None  # a run of that id is replaced
        rows = {}
        path = f"{entity or 'me'}/{project}/{id}"
        self.sent.append(path)
        run = SimpleNamespace(summary={}, historyLineCount=0, state="running")

        def log(row, step):
            rows.setdefault(step, {}).update(row)
            run.historyLineCount = 0 if self.loses else len(rows)

        def finish(exit_code):
            run.state = "failed" if exit_code else "finished"

        self.runs[path] = run
        return SimpleNamespace(step=0, define_metric=lambda *a, **o: None, log=log, summary=run.summary, finish=finish)

    def run(self, path):
        return self.runs[path]


def test_online_a_run_is_sent_once(results, monkeypatch):
    server = Remembered(monkeypatch)
    assert "exported online: 3 runs to the project discrete-latent" in export(results)
    assert len(server.sent) == 3
    directory = next(results.glob("*/runs/sparsemax-s0-*"))
    (note,) = notes(directory)
    assert (note["mode"], note["folder"], note["rows"]) == ("online", None, 3)
    assert not list(results.glob("*/runs/*/wandb/*"))
    assert "already exported: 3 runs" in export(results)
    assert "already exported: 3 runs" in export(results, "--mode", "offline")
    assert len(server.sent) == 3
    export(results, "--force")
    assert len(server.sent) == 6


def test_what_the_server_has_of_live_tracking_is_not_sent_again(results, monkeypatch):
    server = Remembered(monkeypatch)
    export(results)
    for directory in results.glob("*/runs/*"):
        (directory / "wandb.json").unlink()
    server.runs["me/discrete-latent/signal_game.sparsemax-s0-0123abcd"].state = "crashed"
    server.runs["me/discrete-latent/signal_game.sparsemax-s1-0123abcd"].historyLineCount = 2
    output = export(results)
    assert "already exported: 1 run " in output
    assert server.sent[3:] == [f"me/discrete-latent/signal_game.sparsemax-s{seed}-0123abcd" for seed in (0, 1)]
    for directory in results.glob("*/runs/*"):
        (directory / "wandb.json").unlink()
    finished(results, CRITIC, 0, seconds=9.5)  # run anew: the server has another run of that id
    assert "already exported: 2 runs" in export(results)
    assert len(server.sent) == 6


def test_an_upload_that_lost_rows_is_no_export(results, monkeypatch):
    server = Remembered(monkeypatch, loses=True)
    output = export(results, code=1)
    assert output.count("does not show all of its rows: 0 of 3") == 3
    assert not list(results.rglob("wandb.json"))
    server.loses = False
    assert "exported online: 3 runs" in export(results)


def test_an_export_online_leaves_nothing_to_upload(results, monkeypatch):
    export(results, "--mode", "offline")
    Remembered(monkeypatch)
    assert "wandb sync" not in export(results)
    assert uploads(results) == []
    assert [note["mode"] for note in notes(next(results.glob("*/runs/sparsemax-s0-*")))] == ["online"]


def test_a_server_that_refuses_is_named(monkeypatch):
    def refuse(**options):
        raise wandb.errors.AuthenticationError("the key is not valid")

    monkeypatch.setattr(wandb, "Api", refuse)
    with pytest.raises(tracking.TrackingError, match="the key is not valid"):
        Server()


# The command that uploads.


def test_the_command_names_these_runs_and_no_others(tmp_path):
    folder = tmp_path / "my results"
    first, second, other = (finished(folder, "dense", seed) for seed in range(3))
    export(folder, "--mode", "offline")
    assert wandb_notes.sync_command([first, second, other]) == f"wandb sync '{folder}/signal_game/runs'/*/wandb"
    assert wandb_notes.sync_command([first, second]) == f"wandb sync '{first}/wandb' '{second}/wandb'"
    assert wandb_notes.sync_command([other]) == f"wandb sync '{other}/wandb'"


# Workspaces.


@pytest.fixture
def saved(monkeypatch):
    """Views that are saved, as the server takes them; with a key and no network."""
    internal = pytest.importorskip("wandb_workspaces.workspaces.internal")
    interface = pytest.importorskip("wandb_workspaces.workspaces.interface")
    views = []

    def upsert(view):
        views.append(view.model_dump(mode="json", by_alias=True, exclude_none=True))
        return {"upsertView": {"view": {"id": "V", "name": view.name}}}

    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setattr(internal, "upsert_view2", upsert)
    monkeypatch.setattr(interface, "get_app_url", lambda api: "https://wandb.example")
    monkeypatch.setattr(wandb, "Api", lambda **options: SimpleNamespace(default_entity="me"))
    return views


def charts(view):
    sections = view["spec"]["section"]["panelBankConfig"]["sections"]
    return {section["name"]: [(panel["viewType"], panel["config"]) for panel in section["panels"]] for section in sections}


def test_the_workspace_that_is_saved(results, saved):
    result = latent("workspace", results)
    assert result.exit_code == 0, result.output
    assert "https://wandb.example/me/discrete-latent?nw=" in result.output
    (view,) = saved
    assert (view["entity"], view["project"], view["displayName"]) == ("me", "discrete-latent", "Estimators on signal_game")
    (runs,) = view["spec"]["section"]["runSets"]
    assert runs["grouping"] == [{"section": "run", "name": "group"}]
    found = charts(view)
    validation = "Validation, over decoder calls in training"
    assert list(found) == [validation, "Validation, over steps", found_name(found, "Support"), found_name(found, "Test")]
    ((kind, line),) = found[validation]
    assert kind == "Run History Line Plot"
    assert (line["xAxis"], line["metrics"]) == ("total_decoder_calls", ["val/success_rate"])
    assert (line["groupBy"], line["groupAgg"], line["groupArea"]) == ("group", "mean", "stddev")
    ((_, over_steps),) = found["Validation, over steps"]
    assert over_steps["xAxis"] == "_step"
    ((_, support),) = found[found_name(found, "Support")]
    assert support["metrics"] == ["train/decoder_calls"]
    kinds = dict(found[found_name(found, "Test")])
    assert kinds["Scatter Plot"]["xAxis"] == "summary:test/decoder_calls"
    assert kinds["Scatter Plot"]["yAxis"] == "summary:test/success_rate"


def found_name(found, beginning):
    return next(name for name in found if name.startswith(beginning))


def test_by_estimator(results, saved):
    """By a key of the configuration that has no dot, which W&B cannot group by, and that WandbSink gives."""
    assert latent("workspace", results, "--by", "estimator").exit_code == 0
    (view,) = saved
    (runs,) = view["spec"]["section"]["runSets"]
    assert runs["grouping"] == [{"section": "config", "name": "estimator_label.value"}]
    grouped = {config["groupBy"] for found in charts(view).values() for _, config in found if "groupBy" in config}
    assert grouped == {"estimator_label.value"}


@pytest.mark.parametrize("probe", [0, 10])
def test_charts_are_of_what_the_runs_measure(tmp_path, saved, probe):
    finished(tmp_path / "results", "dense", task="vae", probe=probe)
    assert latent("workspace", tmp_path / "results", "--project", "p", "--entity", "e").exit_code == 0
    (view,) = saved
    assert (view["entity"], view["project"]) == ("e", "p")
    metrics = json.dumps(charts(view))
    assert "val/elbo" in metrics
    assert "success_rate" not in metrics
    assert "test/bits_per_dim" not in metrics
    assert ("probe/variance" in metrics) == bool(probe)


def test_without_results_all_tasks(saved):
    assert latent("workspace").exit_code == 0
    metrics = json.dumps(charts(saved[0]))
    names = ("val/success_rate", "val/elbo", "val/accuracy", "val/rate", "val/distortion", "test/bits_per_dim", "probe/cosine")
    for name in names:
        assert name in metrics, name
    assert saved[0]["spec"]["section"]["runSets"][0]["filters"]["filters"] == []


def test_of_a_grid_only_what_validation_chose(tmp_path, saved):
    for seed, digest, rate in ((1, "aaaaaaaa", 0.1), (2, "bbbbbbbb", 0.2)):  # the seed is the validation metric's start
        directory = finished(tmp_path / "results", "dense", seed, digest, grid={"train.learning_rate": rate})
        configuration = yaml.safe_load((directory / "config.yaml").read_text())
        configuration["train"]["learning_rate"] = rate
        RunDirectory(directory).write_configuration(configuration)
    assert latent("workspace", tmp_path / "results").exit_code == 0
    filters = json.dumps(saved[0]["spec"]["section"]["runSets"][0]["filters"])
    assert "dense-bbbbbbbb" in filters
    assert "dense-aaaaaaaa" not in filters


def test_the_workspace_of_a_file_is_the_one_that_was_made(results, tmp_path, saved, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY")
    result = latent("workspace", results)
    assert result.exit_code == 0, result.output
    assert "no key" in result.output
    assert "latent wandb workspace --load wandb_workspace.json" in result.output
    assert saved == []
    refused = latent("workspace", "--load", "wandb_workspace.json")
    assert refused.exit_code == 1
    assert "no key" in refused.output
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    written = json.loads((tmp_path / "wandb_workspace.json").read_text())
    assert latent("workspace", "--load", "wandb_workspace.json").exit_code == 0
    assert saved[0]["spec"] == written["spec"]
    assert saved[0]["entity"] == "me"
    assert latent("workspace", "--load", "wandb_workspace.json", "--project", "q", "--entity", "e").exit_code == 0
    assert (saved[1]["entity"], saved[1]["project"]) == ("e", "q")


def test_out_writes_and_does_not_save(results, tmp_path, saved):
    assert latent("workspace", results, "--out", tmp_path / "w.json").exit_code == 0
    assert saved == []
    assert charts(json.loads((tmp_path / "w.json").read_text()))
    refused = latent("workspace", results, "--out", tmp_path / "none" / "w.json")
    assert refused.exit_code == 2
    assert "cannot write" in refused.output


def test_the_project_is_where_the_runs_were_exported_to(results, saved):
    runs = read_runs([results])
    export(results, "--mode", "offline", "--project", "mine")
    assert wandb_workspace.place(runs, None, None) == ("mine", None)
    export(results, "--mode", "offline", "--project", "other")
    refused = latent("workspace", results)
    assert refused.exit_code == 2
    assert "several projects (mine, other)" in refused.output
    assert wandb_workspace.place(runs, "other", None) == ("other", None)


@pytest.mark.parametrize("content", ["", "[]", '{"entity": "e"}', '{"project": 3, "spec": []}'])
def test_a_file_that_is_no_workspace(tmp_path, saved, content):
    (tmp_path / "w.json").write_text(content)
    result = latent("workspace", "--load", tmp_path / "w.json")
    assert result.exit_code == 2
    assert "is not a workspace" in result.output


def test_a_server_that_does_not_take_it(results, saved, monkeypatch):
    def refuse(**options):
        raise wandb.errors.CommError("no answer")

    monkeypatch.setattr(wandb, "Api", refuse)
    result = latent("workspace", results)
    assert result.exit_code == 1
    assert "cannot save the workspace: no answer" in result.output


def test_without_wandb_workspaces_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(wandb_workspace.importlib.util, "find_spec", lambda name: None)
    result = latent("workspace")
    assert result.exit_code == 2
    assert "pip install 'discrete-latent[wandb]'" in result.output
