"""The report page, live: a small server for this machine alone, which reads runs and writes nothing."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, unquote, urlsplit

from latent.experiment.run_directory import RunDirectory, RunError
from latent.reports.page.data import Section, sections
from latent.reports.page.page import Built, as_json, build, page
from latent.reports.runs import ResultsError, Run, read_runs, run_directories
from latent.terminal import say_error

ADDRESS = "127.0.0.1"
HOSTS = ("localhost", ADDRESS)
"""Names that a browser may have asked for: another one's page would be read by whoever owns that name (DNS rebinding)."""
FILES = ("config.yaml", "metrics.jsonl", "error.txt")
"""What a page links to, and all of a run that is served."""
WATCHED = (*FILES, "done.json", "plan.json")


@dataclass(frozen=True)
class _Shown:
    version: str
    sections: list[Section]
    runs: list[Run]
    built: Built


class Live:
    """What some folders hold, read anew where a file of a run has changed.

    Args:
        folders: those of the results; each must exist.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = list(folders)
        self.lock = threading.Lock()
        self.shown: _Shown | None = None

    def version(self) -> str:
        """A digest of which runs there are, when and to what size each of their files was written, and which are running."""
        digest = hashlib.sha256()
        for directory in self._directories():
            digest.update(f"{directory}\0".encode(errors="surrogateescape"))
            for name in WATCHED:
                try:
                    found = (directory / name).stat()
                except OSError:
                    continue
                digest.update(f"{name} {found.st_mtime_ns} {found.st_size}\0".encode())
            if not (directory / "done.json").exists():
                digest.update(b"running" if RunDirectory(directory).is_locked() else b"")
        return digest.hexdigest()[:16]

    def _directories(self) -> list[Path]:
        return sorted({directory for folder in self.folders for directory in run_directories(folder)})

    def current(self) -> tuple[str, Built]:
        """The version, and what to show. Where a run is damaged, that says so, with the runs as they were before."""
        with self.lock:
            version = self.version()
            if self.shown is None or self.shown.version != version:
                self.shown = self._read(version)
            return version, self.shown.built

    def _read(self, version: str) -> _Shown:
        problem = ""
        found, runs = (self.shown.sections, self.shown.runs) if self.shown else ([], [])
        try:
            runs_now = read_runs(self.folders, unfinished=True) if self._directories() else []
            found, runs = sections(runs_now), runs_now
        except (RunError, ResultsError, OSError) as error:
            problem = f"{error}. Below is what was there before." if runs else str(error)
        return _Shown(version, found, runs, build(found, runs, self.link, problem))

    def link(self, file: Path) -> str:
        """The address of a run's file: ``files/<number of the folder>/<path in it>``."""
        number, folder = next((i, folder) for i, folder in enumerate(self.folders) if file.is_relative_to(folder))
        return f"files/{number}/{quote(file.relative_to(folder).as_posix())}"

    def file(self, address: str) -> Path | None:
        """The file that :meth:`link` gave this address; None of anything else, and of what is not below its folder."""
        parts = unquote(address, errors="surrogateescape").split("/")
        if len(parts) < 3 or parts[0] != "files" or parts[-1] not in FILES or {"", ".", ".."} & set(parts):
            return None
        folder = {str(number): folder for number, folder in enumerate(self.folders)}.get(parts[1])
        if folder is None:
            return None
        try:
            root, path = folder.resolve(strict=True), folder.joinpath(*parts[2:]).resolve(strict=True)
        except (OSError, ValueError, RuntimeError):  # no such file, a zero byte, or links in a circle
            return None
        inside = path.is_relative_to(root) and path.name in FILES and path.parent.parent.name == "runs"
        return path if inside and path.is_file() else None


class _Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD; http.server refuses every other method."""

    server: Server
    server_version = "latent"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer with headers and content."""
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        """Answer with headers alone."""
        self._answer(with_body=False)

    def _answer(self, with_body: bool) -> None:
        live, path = self.server.live, self.path.partition("?")[0].removeprefix("/")
        if not self._is_for_here():
            self._send_text(HTTPStatus.FORBIDDEN, "only localhost is served here\n", with_body)
        elif path == "":
            version, built = live.current()
            html = page(built, every=self.server.every, version=version)
            self._send(HTTPStatus.OK, "text/html", html.encode(errors="replace"), with_body)
        elif path == "version":
            self._send(HTTPStatus.OK, "application/json", json.dumps({"version": live.version()}).encode(), with_body)
        elif path == "content":
            version, built = live.current()
            text = f'{{"version":{as_json(version)},{built.as_json()[1:]}'
            self._send(HTTPStatus.OK, "application/json", text.encode(errors="replace"), with_body)
        elif (file := live.file(path)) is not None:
            self._send_file(file, with_body)
        else:
            self._send_text(HTTPStatus.NOT_FOUND, "there is no such page\n", with_body)

    def _is_for_here(self) -> bool:
        try:
            return urlsplit(f"//{self.headers.get('Host', '')}").hostname in HOSTS
        except ValueError:
            return False

    def _send_text(self, status: HTTPStatus, text: str, with_body: bool) -> None:
        self._send(status, "text/plain", text.encode(), with_body)

    def _send(self, status: HTTPStatus, kind: str, content: bytes, with_body: bool) -> None:
        self._begin(status, kind, len(content))
        if with_body:
            self.wfile.write(content)

    def _send_file(self, file: Path, with_body: bool) -> None:
        try:
            stream = file.open("rb")
        except OSError:
            self._send_text(HTTPStatus.NOT_FOUND, "this file cannot be read\n", with_body)
            return
        with stream:
            size = os.fstat(stream.fileno()).st_size
            self._begin(HTTPStatus.OK, "text/plain", size)
            if with_body:
                _copy(stream, self.wfile, size)

    def _begin(self, status: HTTPStatus, kind: str, size: int) -> None:
        self.send_response(status)
        for name, value in (
            ("Content-Type", f"{kind}; charset=utf-8"),
            ("Content-Length", str(size)),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            ("X-Frame-Options", "DENY"),
            ("Referrer-Policy", "no-referrer"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
        ):
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing: a line for every question of every open page would bury what matters."""


def _copy(source: IO[bytes], target: Any, size: int) -> None:
    """As many bytes as were promised, though the file grows meanwhile."""
    while size > 0 and (chunk := source.read(min(size, 1 << 20))):
        target.write(chunk)
        size -= len(chunk)


class Server(ThreadingHTTPServer):
    """The server of a live page, on this machine's own address."""

    daemon_threads = True

    def __init__(self, live: Live, port: int, every: float) -> None:
        self.live, self.every = live, every
        super().__init__((ADDRESS, port), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say what went wrong in an answer; that a reader has left is nothing wrong."""
        error = sys.exc_info()[1]
        if not isinstance(error, ConnectionError):
            say_error(f"the page could not be answered: {type(error).__name__}: {error}")


def bind(folders: Sequence[Path], port: int, every: float) -> Server:
    """A server that listens on 127.0.0.1, and that ``serve_forever`` makes answer.

    Args:
        folders: of the results.
        port: 0 is any free one.
        every: how often an open page asks for news, in seconds.

    Raises:
        OSError: if it cannot listen on this port.
    """
    return Server(Live(folders), port, every)
