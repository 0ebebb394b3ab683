"""What Weights & Biases has of a run, noted in the run's directory as ``wandb.json``, and the folders of offline runs there.

A run's offline folder is as ``wandb sync`` finds it: ``<run>/wandb/offline-run-<time>-<id>/run-<id>.wandb``, with a file
``run-<id>.wandb.synced`` beside it once it is uploaded.
"""

from __future__ import annotations

import json
import shlex
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from latent.files import write_json

FILE = "wandb.json"


@dataclass(frozen=True)
class Note:
    """That W&B has all of a run, and where.

    Attributes:
        mode: ``online``, on the server; or ``offline``, in ``folder``, to be uploaded.
        base_url: address of the server.
        entity: null where it is the account's default one.
        project: the project.
        id: of W&B's run.
        rows: rows of metrics, all that the run has.
        summary: SHA-256 of the ``done.json`` that they belong to: a run that was run anew has another.
        folder: name of W&B's folder of the run, null where the server has it.
    """

    mode: str
    base_url: str
    entity: str | None
    project: str
    id: str
    rows: int
    summary: str
    folder: str | None = None

    @property
    def place(self) -> tuple[str, str | None, str]:
        """Where on W&B the run is."""
        return self.base_url, self.entity, self.project


def read(directory: Path) -> list[Note]:
    """The notes of a run; none where the file is missing or unreadable: all that it saves is work."""
    try:
        return [Note(**note) for note in json.loads((directory / FILE).read_text())]
    except (OSError, ValueError, TypeError):
        return []


def write(directory: Path, note: Note) -> None:
    """Add a note, in the place of what was noted for the same place on W&B, or for a run that has been run anew since.

    Offline folders of the run that no note names, such as those that live tracking leaves, whole or cut off by a kill, are
    marked as if they were uploaded: ``wandb sync`` passes over them, and ``wandb clean`` removes them.

    Raises:
        OSError: if nothing can be written there.
    """
    kept = [old for old in read(directory) if old.summary == note.summary and old.place != note.place]
    named = {each.folder for each in (*kept, note)}
    for file in (directory / "wandb").glob(f"offline-run-*/run-{note.id}.wandb"):
        if file.parent.name not in named:
            _mark(file).touch()
    write_json(directory / FILE, [asdict(each) for each in (*kept, note)])


def _mark(file: Path) -> Path:
    return file.with_suffix(".wandb.synced")


def waiting(directories: Iterable[Path]) -> list[Path]:
    """Those of some runs' directories whose noted offline folders are still to be uploaded."""
    return [
        directory
        for directory in directories
        if any(_waits(directory / "wandb" / note.folder / f"run-{note.id}.wandb") for note in read(directory) if note.folder)
    ]


def _waits(file: Path) -> bool:
    return file.exists() and not _mark(file).exists()


def sync_command(directories: Iterable[Path]) -> str:
    """The command that uploads the offline folders of these runs, and of no others."""
    by_folder: dict[Path, list[Path]] = defaultdict(list)
    for directory in directories:
        by_folder[directory.parent].append(directory)
    words = []
    for folder, mine in by_folder.items():
        found = {file.parents[2] for file in folder.glob("*/wandb/offline-run-*/*.wandb") if _waits(file)}
        if len(mine) > 1 and found == set(mine):
            words.append(f"{shlex.quote(str(folder))}/*/wandb")
        else:
            words += [shlex.quote(str(directory / "wandb")) for directory in mine]
    return " ".join(["wandb sync", *words])
