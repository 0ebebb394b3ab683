"""Small sweeps: four runs of a synthetic game, of two estimators with two seeds."""

import csv
import io
import json

import pytest
from typer.testing import CliRunner

from latent.commands.main import app
from tests.conftest import TINY


@pytest.fixture
def configurations(tmp_path):
    """Two configuration files in a folder of their own."""
    return write_configurations(tmp_path / "configurations")


def write_configurations(folder):
    folder.mkdir()
    (folder / "sparsemax.yaml").write_text(TINY)
    (folder / "dense.yaml").write_text("extends: sparsemax.yaml\nestimator:\n  name: dense\n")
    return [folder / "sparsemax.yaml", folder / "dense.yaml"]


@pytest.fixture(scope="session")
def sweep():
    """The command in this process, with the launcher that starts none; exceptions other than exits are failures."""

    def call(*arguments, launcher="debug"):
        chosen = ["--launcher", launcher] if launcher else []
        result = CliRunner().invoke(app, ["sweep", *map(str, arguments), *chosen])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return call


def summaries(out):
    """What every finished run ended with, but how long it took."""
    found = {}
    for file in sorted(out.glob("*/runs/*/done.json")):
        summary = json.loads(file.read_text())
        found[summary["run"]] = {key: value for key, value in summary.items() if not key.startswith("time/")}
    return found


def table(out):
    """The lines of the table of finished runs, but how long they took."""
    result = CliRunner().invoke(app, ["table", str(out), "--format", "csv"])
    assert result.exit_code == 0, result.stderr
    lines = list(csv.DictReader(io.StringIO(result.stdout)))
    return [{key: value for key, value in line.items() if key != "time_ratio"} for line in lines]
