"""The live page's server: what it answers, to whom, and what it refuses; and that it follows the runs."""

import http.client
import json
import signal
import socket
import subprocess
import threading
from contextlib import contextmanager

import pytest
from typer.testing import CliRunner

from latent.commands.main import app
from latent.reports.page.serve import Live, bind
from tests.processes import AT_LAST, ended, start
from tests.reports.made_runs import made_run

pytest.importorskip("altair")
pytest.importorskip("vl_convert")


@contextmanager
def serving(*folders):
    """A server that answers in a thread of its own."""
    with bind(folders, 0, 0.5) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def ask(server, path, method="GET", **headers):
    """The status, the headers and the content of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=AT_LAST)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def content(server):
    return json.loads(ask(server, "/content")[2])


def version(server):
    return json.loads(ask(server, "/version")[2])["version"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    found = tmp_path_factory.mktemp("results")
    made_run(found, "dense", 0)
    made_run(found, "dense", 1, state="failed")
    for run in (found / "signal_game" / "runs").iterdir():
        (run / "checkpoint.pt").write_text("secret")
    return found


@pytest.fixture(scope="module")
def server(folder):
    with serving(folder) as started:
        yield started


# What is answered.


def test_the_page_is_live_and_says_where_its_files_are(server, folder):
    status, headers, body = ask(server, "/")
    assert status == 200
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    text = body.decode()
    assert f'data-every="0.5" data-version="{version(server)}"' in text
    assert "connect-src 'self'" in text
    for run in (folder / "signal_game" / "runs").iterdir():
        for file in {"config.yaml", "metrics.jsonl", "error.txt"} & {file.name for file in run.iterdir()}:
            address = f"files/0/signal_game/runs/{run.name}/{file}"
            assert f'href="{address}"' in text
            status, headers, body = ask(server, f"/{address}")
            assert (status, body) == (200, (run / file).read_bytes())
            assert headers["Content-Type"] == "text/plain; charset=utf-8"
            assert headers["X-Content-Type-Options"] == "nosniff"
    assert set(content(server)) == {"version", "title", "html", "data"}


def test_head_has_no_content_and_other_methods_are_refused(server):
    status, headers, body = ask(server, "/", "HEAD")
    assert (status, body) == (200, b"")
    assert int(headers["Content-Length"]) > 500_000
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        assert ask(server, "/", method)[0] == 501


def test_only_this_machine_can_connect(server):
    assert server.server_address[0] == "127.0.0.1"
    with socket.socket() as other, pytest.raises(ConnectionRefusedError):
        other.connect(("127.0.0.2", server.server_port))  # it would answer there if it listened on every address


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil", "[", "", "0.0.0.0"]
)
@pytest.mark.parametrize("path", ["/", "/version", "/content", "/files/0/x"])
def test_pages_of_other_names_are_refused(server, host, path):
    status, _, body = ask(server, path, Host=host)
    assert status == 403
    assert b"localhost" in body


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "localhost:9999", "LOCALHOST:1"])
def test_this_machines_names_are_answered(server, host):
    assert ask(server, "/version", Host=host)[0] == 200


REFUSED = [
    "files/0/../outside/runs/x/config.yaml",
    "files/0/%2e%2e/outside/runs/x/config.yaml",
    "files/0/..%2foutside/runs/x/config.yaml",
    "files/0/{run}/../../../../outside/runs/x/config.yaml",
    "files/0//{run}/config.yaml",
    "files/0/./{run}/config.yaml",
    "files/0//etc/passwd",
    "files/0/{absolute}",
    "files/0/{run}/checkpoint.pt",
    "files/0/{run}/done.json",
    "files/0/{run}/",
    "files/0/{run}",
    "files/0/{run}/config.yaml%00",
    "files/0/{run}/config.yaml/",
    "files/0/{run}/link.yaml",
    "files/0/signal_game/elsewhere/config.yaml",
    "files/1/{run}/config.yaml",
    "files/-1/{run}/config.yaml",
    "files/x/{run}/config.yaml",
    "files/²/{run}/config.yaml",
    "{run}/config.yaml",
    "files",
    "../../etc/passwd",
    "etc/passwd",
    "favicon.ico",
]


@pytest.mark.parametrize("address", REFUSED)
def test_nothing_else_is_served(tmp_path, address):
    run = made_run(tmp_path / "results", "dense").path
    outside = made_run(tmp_path / "outside", "dense").path
    outside.rename(tmp_path / "outside" / "runs")
    (tmp_path / "outside" / "runs" / "x").mkdir()
    (tmp_path / "outside" / "runs" / "x" / "config.yaml").write_text("secret")
    (run / "checkpoint.pt").write_text("secret")
    (run.parent.parent / "elsewhere").mkdir()
    (run.parent.parent / "elsewhere" / "config.yaml").write_text("secret")
    live = Live([tmp_path / "results"])
    names = {"run": run.relative_to(tmp_path / "results").as_posix(), "absolute": (run / "config.yaml").as_posix()}
    assert live.file(f"files/0/{names['run']}/config.yaml") == (run / "config.yaml").resolve()
    assert live.file(address.format(**names)) is None


@pytest.mark.parametrize("address", [each for each in REFUSED if "{" not in each and each.isascii()])
def test_what_is_refused_is_not_found(server, address):
    status, _, body = ask(server, f"/{address}")
    assert status == 404
    assert b"secret" not in body


def test_links_out_of_the_results_are_not_followed(tmp_path):
    run = made_run(tmp_path / "results", "dense").path
    (tmp_path / "secret.txt").write_text("secret")
    (run / "error.txt").symlink_to(tmp_path / "secret.txt")
    (run / "config.yaml").rename(tmp_path / "config.yaml")
    (run / "config.yaml").symlink_to(tmp_path / "config.yaml")
    live = Live([tmp_path / "results"])
    for name in ("error.txt", "config.yaml"):
        assert live.file(f"files/0/signal_game/runs/{run.name}/{name}") is None
    other = tmp_path / "other" / "runs" / "x"
    other.mkdir(parents=True)
    (other / "config.yaml").write_text("secret")
    (run.parent / "y").symlink_to(other)
    assert live.file("files/0/signal_game/runs/y/config.yaml") is None
    (run / "loop").symlink_to(run / "loop")
    assert live.file(f"files/0/signal_game/runs/{run.name}/loop/config.yaml") is None


def test_a_file_that_grows_is_answered_as_long_as_was_said(server, folder):
    (run,) = (path for path in (folder / "signal_game" / "runs").iterdir() if not (path / "error.txt").exists())
    metrics = run / "metrics.jsonl"
    before = metrics.read_bytes()
    try:
        metrics.write_bytes(before * 1000)
        status, headers, body = ask(server, f"/files/0/signal_game/runs/{run.name}/metrics.jsonl")
        assert status == 200
        assert len(body) == int(headers["Content-Length"]) == 1000 * len(before)
    finally:
        metrics.write_bytes(before)


# Live.


def test_the_page_follows_the_runs(tmp_path):
    with serving(tmp_path) as server:
        empty = version(server)
        assert "No run yet" in content(server)["html"]
        assert version(server) == empty
        run = made_run(tmp_path, "dense", state="stopped")
        begun = version(server)
        assert begun != empty
        first = content(server)
        assert first["version"] == begun
        assert "1 stopped" in first["html"]
        assert first["data"]["sections"][0]["means"][0]["curves"]["val"]["step"] == [10, 20, 30, 40, 50]
        with run.locked():
            assert version(server) not in (empty, begun)
            assert "1 running" in content(server)["html"]
        assert version(server) == begun
        with run.metrics.open("a") as stream:
            stream.write(
                json.dumps({"step": 60, "total_decoder_calls": 1, "val/success_rate": 0.5, "time/seconds": 1.0}) + "\n"
            )
        assert version(server) != begun
        assert content(server)["data"]["sections"][0]["means"][0]["curves"]["val"]["step"][-1] == 60
        made_run(tmp_path, "sparsemax", 0)
        assert "1 finished" in content(server)["html"]


def test_a_damaged_run_is_said_and_the_page_goes_on(tmp_path):
    made_run(tmp_path, "dense")
    with serving(tmp_path) as server:
        assert 'role="alert"' not in content(server)["html"]
        damaged = made_run(tmp_path, "sparsemax")
        whole = damaged.done.read_text()
        damaged.done.write_text("{")
        html = content(server)["html"]
        assert 'role="alert"' in html
        assert f"{damaged.path.name}/done.json is damaged" in html
        assert 'data-label="dense"' in html
        assert ask(server, "/")[0] == 200
        damaged.done.write_text(whole)
        html = content(server)["html"]
        assert 'role="alert"' not in html
        assert 'data-label="sparsemax"' in html


def test_a_page_that_begins_with_a_damaged_run_says_so(tmp_path):
    made_run(tmp_path, "dense").metrics.write_text("{\n")
    with serving(tmp_path) as server:
        assert "metrics.jsonl is damaged" in content(server)["html"]


def test_what_has_not_changed_is_not_read_again(tmp_path, monkeypatch):
    made_run(tmp_path, "dense")
    live = Live([tmp_path])
    first = live.current()
    monkeypatch.setattr("latent.reports.page.serve.read_runs", None)
    assert live.current() == first


def test_several_folders_have_addresses_of_their_own(tmp_path):
    for name in ("a", "b"):
        made_run(tmp_path / name, "dense", experiment=name)
    live = Live([tmp_path / "a", tmp_path / "b"])
    _, built = live.current()
    for number, name in enumerate(("a", "b")):
        (run,) = (tmp_path / name / name / "runs").iterdir()
        address = f"files/{number}/{name}/runs/{run.name}/config.yaml"
        assert f'href="{address}"' in built.html
        assert live.file(address) == run / "config.yaml"


# The command line.


def test_a_port_that_is_taken_and_a_folder_that_is_not_there(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = CliRunner().invoke(app, ["serve", str(tmp_path), "--port", str(port)])
    assert result.exit_code == 2
    assert f"port {port} is taken; --port names another one" in result.stderr
    result = CliRunner().invoke(app, ["serve", str(tmp_path / "nowhere")])
    assert result.exit_code == 2
    assert "there is no folder" in result.stderr


def test_the_command_says_its_address_and_stops_at_an_interrupt(latent_command, tmp_path):
    made_run(tmp_path, "dense")
    process = start([*latent_command, "serve", tmp_path, "--port", "0"], stderr=subprocess.PIPE)
    try:
        words = process.stderr.readline()
        address = words.split()[0]
        assert address.startswith("http://127.0.0.1:")
        connection = http.client.HTTPConnection(address.removeprefix("http://").rstrip("/"), timeout=AT_LAST)
        connection.request("GET", "/version")
        assert connection.getresponse().status == 200
        connection.close()
        process.send_signal(signal.SIGINT)
        assert ended(process) == "stopped\n"
    finally:
        process.kill()
    assert [path.name for path in tmp_path.iterdir()] == ["signal_game"]
