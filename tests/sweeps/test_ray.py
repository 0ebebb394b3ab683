"""Ray: machines that die, workers that die, runs that are in use, Ctrl-C, and what is refused."""

import importlib.util
import os
import signal
from pathlib import Path

import pytest

from latent.experiment.run_directory import RunDirectory
from latent.sweeps import ray_cluster
from latent.sweeps.launcher import LauncherError, Stopped
from latent.sweeps.launchers import launcher_for
from latent.sweeps.plan import resources
from latent.sweeps.waiting import Waiting
from tests.processes import AT_LAST, default_signals, holder
from tests.sweeps.clusters import (
    checkpoint_step,
    directories,
    launch,
    launcher,
    planned,
    results,
    steps_done,
    undisturbed,
)
from tests.sweeps.conftest import summaries, table
from tests.test_docs import blocks

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
ray = pytest.importorskip("ray")
pytestmark = pytest.mark.xdist_group("ray")
LONG = ["train.steps=1200", "train.log_every=20", "train.evaluate_every=200", "train.checkpoint_every=20"]
NO_CHECKPOINTS = ["train.steps=100000", "train.checkpoint_every=100000", "train.evaluate_every=100000"]
STORE = {"object_store_memory": ray_cluster.OBJECT_STORE_BYTES}


@pytest.fixture(scope="module", autouse=True)
def signals():
    """Ray asks its workers to stop with signals."""
    with default_signals():
        yield


@pytest.fixture(autouse=True)
def looking_often(monkeypatch):
    """What a tick is to find in the middle of a run is not over before it looks."""
    monkeypatch.setattr(ray_cluster, "SECONDS_BETWEEN_LOOKS", 0.02)


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """A busy machine takes long to import Ray and to write checkpoints."""
    monkeypatch.setattr(ray_cluster, "SECONDS_TO_CONNECT", AT_LAST)
    monkeypatch.setattr(ray_cluster, "SECONDS_TO_STOP", AT_LAST)


@pytest.fixture(scope="module")
def cluster(signals):
    """Two machines of one processor each, and a head that has none; all are processes of this machine."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **STORE})
    for _ in range(2):
        made.add_node(num_cpus=1, **STORE)
    yield made
    made.shutdown()


def machine_of(worker, cluster):
    """The machine whose raylet has started a worker."""
    parent = int(Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[1])
    (machine,) = [each for each in cluster.list_all_nodes() if each.all_processes["raylet"][0].process.pid == parent]
    return machine


def test_a_worker_that_dies_again_and_again_is_given_up(cluster, configurations, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_cluster, "RETRIES", 1)
    runs = planned(configurations[:1], tmp_path, 1, *NO_CHECKPOINTS, "train.log_every=20")
    killed = []

    def tick():
        if steps_done(runs[0]) and (worker := holder(runs[0].directory.path)) not in (None, *killed):
            os.kill(worker, signal.SIGKILL)
            killed.append(worker)

    crashes = launch("ray", runs, tick, address=cluster.address)
    assert len(killed) == 2
    assert crashes == {runs[0].directory.path: "its worker died, 2 times without a new checkpoint in between"}
    assert runs[0].directory.state() == "stopped"


def test_a_machine_dies_and_a_run_is_in_use(cluster, configurations, tmp_path, monkeypatch, caplog):
    """The first of two runs is in use when its task starts; the machine that works on the second dies in the middle of it."""
    out = tmp_path / "out"
    runs = planned(configurations[:1], out, 2, *LONG)
    in_use, locks, lost = [], [], []
    set_aside = Waiting.set_aside
    monkeypatch.setattr(Waiting, "set_aside", lambda *call: (in_use.append(call[1]), set_aside(*call)))

    def tick():
        if not locks:  # its task is submitted, and its worker not yet there
            locks.append(runs[0].directory.locked())
            locks[0].__enter__()
        elif runs[0].directory.path in in_use and len(locks) == 1:
            locks.append(locks[0].__exit__(None, None, None))
        worker = holder(runs[1].directory.path)
        if worker and steps_done(runs[1]) >= 60 and not lost:
            lost.append(steps_done(runs[1]))
            cluster.remove_node(machine_of(worker, cluster), allow_graceful=False)

    assert launch("ray", runs, tick, address=cluster.address) == {}
    assert runs[0].directory.path in in_use
    assert 60 <= lost[0] < 1200
    assert f"{runs[1].directory.path.name}: its worker died; it goes on from its checkpoint" in caplog.messages
    assert len(cluster.list_all_nodes()) == 2
    assert results(out) == undisturbed(configurations[:1], tmp_path, 2, *LONG)
    assert table(out) == table(tmp_path / "undisturbed")


def test_the_example_of_the_docs_shares_a_gpu(cluster, configurations, tmp_path):
    cluster.add_node(num_cpus=2, num_gpus=1, **STORE)  # Ray believes it
    (tmp_path / "example.yaml").write_text(blocks("docs/clusters.md", "yaml")[0])
    needed = resources([tmp_path / "example.yaml"], None, None, cluster.address)
    runs = planned(configurations, tmp_path, 1, "train.steps=800")
    free = []
    launched = launcher_for(needed, runs)
    assert launched(directories(runs), lambda: free.append(ray.available_resources().get("GPU", 0))) == {}
    assert len(summaries(tmp_path)) == 2
    assert min(free) in (0.5, 0.75), "one run or both, with a quarter each"


def test_ctrl_c_leaves_checkpoints_and_no_cluster(configurations, tmp_path):
    out, long = tmp_path / "out", ["train.steps=1500", "train.log_every=20", "train.checkpoint_every=1500"]
    runs = planned(configurations[:1], out, 3, *long)
    handler = signal.getsignal(signal.SIGTERM)

    def tick():
        if steps_done(runs[0]):
            raise KeyboardInterrupt

    with pytest.raises(Stopped):
        launch("ray", runs, tick, workers=2)
    assert [run.directory.state() for run in (runs[0], runs[2])] == ["stopped", "planned"]
    assert 0 < checkpoint_step(runs[0]) < 1500, "a checkpoint that is not the periodic one"
    assert not ray.is_initialized()
    assert signal.getsignal(signal.SIGTERM) == handler
    assert launch("debug", runs[:1]) == {}
    summaries, rows = undisturbed(configurations[:1], tmp_path, 1, *long)
    assert results(out)[0] == summaries
    assert results(out)[1].items() >= rows.items()


def test_the_command_with_a_run_that_fails(configurations, sweep, tmp_path):
    configurations[1].write_text(configurations[1].read_text() + "train:\n  learning_rate: 1e30\n")
    result = sweep(*configurations, "--out", tmp_path, launcher="ray")
    assert result.exit_code == 1
    assert "1 finished, 1 failed" in result.stderr
    assert "error.txt" in result.stderr
    assert result.stdout == ""


def test_a_run_in_use_is_left_alone(configurations, tmp_path):
    (run,) = planned(configurations[:1], tmp_path, 1)
    with run.directory.locked():
        assert ray_cluster._work(run.directory.path, Path.cwd()) == ("in use", "")
    assert ray_cluster._work(run.directory.path, tmp_path / "nowhere")[1].endswith("nowhere (No such file or directory)")
    assert RunDirectory(run.directory.path).state() == "planned"


def test_what_is_refused(configurations, sweep, tmp_path, monkeypatch):
    runs = planned(configurations[:1], tmp_path, 1)
    with pytest.raises(LauncherError, match=r"fraction below 1, got 1\.5"):
        launcher("ray", runs, gpus=1.5)
    with pytest.raises(LauncherError, match="needs 1 processors and 64 GPUs"):
        launch("ray", runs, gpus=64)
    with pytest.raises(LauncherError, match="must be auto or host:port"):
        launcher("ray", runs, address="ray://head:10001")
    with pytest.raises(LauncherError, match=r"no connection to a Ray cluster at nonsense: .*Invalid address"):
        launcher("ray", runs, address="nonsense")
    monkeypatch.setattr(ray_cluster, "SECONDS_TO_CONNECT", 5)
    result = sweep(configurations[0], "--out", tmp_path / "out", "--address", "127.0.0.1:6399", launcher="ray")
    assert result.exit_code == 2
    assert "no connection to a Ray cluster at 127.0.0.1:6399: no answer in 5 s" in result.stderr
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(LauncherError, match=r"pip install 'discrete-latent\[ray\]'"):
        launcher("ray", runs)
