"""What the tests of clusters share: runs to launch, and how far they have come."""

import json

import torch

from latent.experiment.overrides import parse_override
from latent.sweeps.debug import DebugLauncher
from latent.sweeps.launchers import launcher_for
from latent.sweeps.plan import Resources, plan
from tests.sweeps.conftest import summaries


def planned(files, out, seeds, *overrides):
    """The runs of a sweep, written down."""
    runs = plan(files, [parse_override(each) for each in overrides], out, seeds)
    for run in runs:
        run.write()
    return runs


def directories(runs):
    return [run.directory.path for run in runs]


def launcher(name, runs, workers=None, gpus=None, slurm=None, address=None):
    return launcher_for(Resources(name, workers, gpus, slurm or {}, address), runs)


def launch(name, runs, tick=lambda: None, **resources):
    return launcher(name, runs, **resources)(directories(runs), tick)


def results(out):
    """Summaries of finished runs, and rows of metrics of all, without times."""
    rows = {}
    for file in sorted(out.glob("*/runs/*/metrics.jsonl")):
        read = map(json.loads, file.read_text().splitlines())
        rows[file.parent.name] = [{key: value for key, value in row.items() if not key.startswith("time/")} for row in read]
    return summaries(out), rows


def undisturbed(files, tmp_path, seeds, *overrides):
    """What the same sweep comes to in one process, one run after another."""
    out = tmp_path / "undisturbed"
    assert DebugLauncher()(directories(planned(files, out, seeds, *overrides)), lambda: None) == {}
    return results(out)


def steps_done(run):
    """The step of the last row of metrics; 0 where there is none."""
    if not run.directory.metrics.exists():
        return 0
    rows = run.directory.metrics.read_text().split("\n")[:-1]
    return json.loads(rows[-1])["step"] if rows else 0


def checkpoint_step(run):
    return torch.load(run.directory.checkpoint, weights_only=True)["state"]["training"]["step"]
