"""Finished runs replayed into Weights & Biases from their own files, each once.

Offline, a run is W&B's when all of it is in one folder, which is written aside and then moved to its place. Online, it is
W&B's when the server shows all of its rows and its summary, whoever sent them: what is there is not sent again, and an upload
that lost something, of which W&B's library does not tell, is not taken for one.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from latent.experiment.run_directory import RunDirectory, RunError
from latent.experiment.tracking import NO_KEY, TrackingError, WandbSink, connect, has_key, run_id, short
from latent.reports.runs import Row, Run, read_rows
from latent.reports.wandb import notes
from latent.reports.wandb.notes import Note

log = logging.getLogger(__name__)

API_SECONDS = 10
"""For how long an answer of the server is waited for."""
LOOKS = 5
"""How often, a second apart, the server is asked for a run that it was just sent."""
TOLD_APART = ("step", "time/seconds")
"""Metrics of a summary that tell a run from the same one run anew, which takes another time."""


@dataclass(frozen=True)
class Destination:
    """Where runs go: ``mode`` is online or offline; without ``project`` and ``entity``, those of each run's configuration."""

    mode: str
    base_url: str
    project: str | None = None
    entity: str | None = None


class Exported(NamedTuple):
    """What W&B has of a run; ``sent`` if it was sent just now."""

    note: Note
    sent: bool


class Server:
    """What the server of W&B shows of runs.

    Raises:
        TrackingError: if it does not answer, or not to this key.
    """

    def __init__(self) -> None:
        import wandb

        try:
            self.api: Any = wandb.Api(timeout=API_SECONDS)
            self.entity: str | None = self.api.default_entity
        except Exception as error:
            raise TrackingError(f"Weights & Biases cannot be reached: {short(error)}") from error

    def lacks(self, note: Note, summary: Row) -> str:
        """What the server does not show of a run, in words; empty where it has all of it."""
        path = f"{note.entity or self.entity}/{note.project}/{note.id}"
        try:
            self.api.flush()  # it remembers what it has seen
            run = self.api.run(path)
            shown, rows, state = dict(run.summary), run.historyLineCount, run.state
        except Exception as error:
            return f"the run {path} ({short(error)})"
        if rows != note.rows:
            return f"all of its rows: {rows} of {note.rows}"
        if any(shown.get(name) != summary.get(name) for name in TOLD_APART):
            return "its summary"
        return "" if state == "finished" else f"its end: it is {state}"


def destination(mode: str | None, project: str | None, entity: str | None) -> Destination:
    """Where runs go: ``mode``, else ``WANDB_MODE``, else online; offline in any case where W&B has no key.

    Raises:
        TrackingError: if W&B is disabled or cannot be used.
    """
    wanted = mode or os.environ.get("WANDB_MODE")
    if wanted == "disabled":
        raise TrackingError("Weights & Biases is disabled (WANDB_MODE=disabled); --mode online or --mode offline overrides it")
    try:
        _, base_url = connect()
    except Exception as error:
        raise TrackingError(f"Weights & Biases cannot be used: {short(error)}") from error
    online = wanted not in ("offline", "dryrun")
    if online and not has_key(base_url):  # W&B would ask for one
        log.warning("%s; exporting offline", NO_KEY)
        online = False
    return Destination("online" if online else "offline", base_url, project, entity)


def export_all(runs: Sequence[Run], to: Destination, force: bool = False) -> Iterator[Exported | RunError | TrackingError]:
    """Export runs one after another: for each what W&B has, or why it failed. Where no server answers, offline."""
    server = None
    for run in runs:
        try:
            if to.mode == "online" and server is None:
                server = Server()
        except TrackingError as error:
            log.warning("%s; exporting offline", error)
            to = replace(to, mode="offline")
        try:
            exported = export(run, to, server, force)
        except (RunError, TrackingError) as error:
            yield error
            continue
        if exported.note.mode == "offline":  # also where the network went in between
            to, server = replace(to, mode="offline"), None
        yield exported


def export(run: Run, to: Destination, server: Server | None = None, force: bool = False) -> Exported:
    """Replay one finished run, unless W&B has it.

    The run's directory is locked meanwhile. A kill leaves no note, and no folder that ``wandb sync`` would find.

    Args:
        run: the run.
        to: where it goes.
        server: of W&B, to go online with.
        force: replay it even so; the run of that id on the server is then replaced.

    Raises:
        RunError: if the run is in use, its files are damaged, or nothing can be written there.
        TrackingError: if W&B failed, or does not show all of the run afterwards.
    """
    files = RunDirectory(run["directory"])
    with files.locked():
        if files.summary() != run["summary"]:
            raise RunError(f"{files.path} has changed since it was read; try again")
        rows, tracking = _rows(run), _tracking(run, to)
        wanted = Note(
            mode=to.mode,
            base_url=to.base_url,
            entity=tracking["entity"],
            project=tracking["project"],
            id=run_id(run["name"]),
            rows=len(rows),
            summary=hashlib.sha256(files.done.read_bytes()).hexdigest(),
        )
        try:
            if not force and (note := _known(run, wanted, server)):
                return Exported(note, sent=False)
            note = _replay(run, rows, tracking, wanted, server)
            notes.write(files.path, note)
            return Exported(note, sent=True)
        except OSError as error:
            raise RunError(f"cannot write to {files.path}: {error.strerror or error}") from error


def _rows(run: Run) -> list[Row]:
    """All rows of metrics, the last of which the summary is of."""
    path, rows = RunDirectory(run["directory"]).metrics, read_rows(run)
    if not rows or rows[-1]["step"] != run["summary"]["step"]:
        raise RunError(f"{path} does not reach step {run['summary']['step']}, at which the run ended")
    return rows


def _tracking(run: Run, to: Destination) -> dict[str, Any]:
    """The block ``tracking`` of a configuration, with the destination in it."""
    configuration = run["configuration"]
    missing = [key for key in ("task", "seed", "data", "tracking") if key not in configuration]
    if missing:
        raise RunError(f"{run['directory'] / 'config.yaml'} is damaged: it has no {' and no '.join(missing)}")
    own: dict[str, Any] = configuration["tracking"]
    return own | {"wandb": to.mode, "project": to.project or own["project"], "entity": to.entity or own["entity"]}


def _known(run: Run, wanted: Note, server: Server | None) -> Note | None:
    """What W&B has of the run already, noted or on the server; a run on the server needs no offline files."""
    for note in notes.read(run["directory"]):
        if note.mode in (wanted.mode, "online") and replace(note, mode=wanted.mode, folder=None) == wanted:
            return note
    if server is None or server.lacks(wanted, run["summary"]):
        return None
    notes.write(run["directory"], wanted)
    return wanted


def _replay(run: Run, rows: list[Row], tracking: dict[str, Any], wanted: Note, server: Server | None) -> Note:
    folder = run["directory"] / "wandb"
    staging = folder / ".partial"
    shutil.rmtree(staging, ignore_errors=True)  # of an export that was killed
    staging.mkdir(parents=True)
    try:
        sink = WandbSink(
            run["configuration"], run["directory"], run["name"], rows, tracking=tracking, files=staging, replay=True
        )
        sink.close(run["summary"], exit_code=0)
        if sink.mode == "online":
            _await(server or Server(), wanted, run["summary"])
            return wanted
        written = sink.folder
        place = _free(folder / written.name)
        written.rename(place)
        return replace(wanted, mode="offline", folder=place.name)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _free(path: Path) -> Path:
    """The path, or one with a number where it is taken: W&B's names tell seconds apart."""
    numbered = (path.with_name(f"{path.name}-{number}") for number in itertools.count(2))
    return next(each for each in itertools.chain([path], numbered) if not each.exists())


def _await(server: Server, note: Note, summary: Row) -> None:
    """Raise TrackingError if the server does not show all of a run that it was sent."""
    for look in range(LOOKS):
        lacking = server.lacks(note, summary)
        if not lacking:
            return
        if look < LOOKS - 1:
            time.sleep(1)
    raise TrackingError(f"Weights & Biases was sent the run {note.id}, but does not show {lacking}")
