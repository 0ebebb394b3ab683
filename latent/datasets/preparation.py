"""Preparing data sets: from the first source that has the published files to one verified file in the cache."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import filelock

from latent.datasets import store
from latent.datasets.originals import FILES, ORIGINALS, DataError
from latent.datasets.sources import Bar, Source, sources

COMMAND = "latent data prepare {}"


@dataclass(frozen=True)
class Entry:
    """What is there of a data set.

    Attributes:
        name: of the data set.
        state: ``ready``, ``embedded``, ``missing`` or ``damaged``.
        remark: where it came from, or what is wrong.
        file: where it is, or is to be.
        size: of the file, in bytes.
        command: prepares or mends it; empty where there is nothing to do.
    """

    name: str
    state: str
    remark: str
    file: Path
    size: int = 0
    command: str = ""


def prepare(
    name: str,
    folder: Path | None = None,
    from_path: Path | None = None,
    *,
    force: bool = False,
    say: Callable[[str], object] = lambda message: None,
    bar: Bar | None = None,
) -> Path:
    """Have a data set in the cache, and return its file; nothing is done where it is there, whole and verified.

    Args:
        name: one of ``ORIGINALS``.
        folder: the cache; the usual one if None.
        from_path: the only folder to read from; all known sources if None.
        force: prepare anew what is there.
        say: told what happens, a line at a time.
        bar: makes the progress bars of downloads.

    Raises:
        DataError: with every source that was tried and why it failed, and what to do.
    """
    folder = folder or store.cache_folder()
    if not force and from_path is None and _complete(name, folder):
        say(f"{ORIGINALS[name].title} is there already, and whole")
        return store.file_of(name, folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(folder / f".{name}.lock"):
            if not force and from_path is None and _complete(name, folder):  # by another process, meanwhile
                return store.file_of(name, folder)
            given = [Source(f"files in {from_path}", lambda _: from_path)] if from_path else None
            prepared = _first(name, given or sources(name, bar), folder / f".{name}.work", say)
            say(f"verified; writing {store.file_of(name, folder)}")
            return store.save(name, folder, prepared)
    except OSError as error:
        reason = f"cannot write to {folder}: {error.strerror or error}"
        raise DataError(f"{reason}; set DISCRETE_LATENT_DATA to a folder with room that can be written") from error


def _complete(name: str, folder: Path) -> bool:
    with suppress(DataError):
        store.load(name, folder)
        return True
    return False


def _first(name: str, tried: Iterable[Source], work: Path, say: Callable[[str], object]) -> store.Prepared:
    """The data set from the first source that has it; ``work`` is gone afterwards, and a killed process's is cleared first."""
    problems = []
    for source in tried:
        say(f"trying {source.label}")
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        try:
            place = source.fetch(work)
            found = store.read(name, place)
            return store.Prepared(found.arrays, source.label) if place == work else found
        except (DataError, OSError) as error:
            problems.append(f"{source.label}: {error}".replace(f"{work}/", ""))
            say(f"  {problems[-1].removeprefix(f'{source.label}: ')}")
        finally:
            shutil.rmtree(work, ignore_errors=True)
    files = ", ".join(f"{file}.gz" for file in FILES.values())
    raise DataError(
        f"{ORIGINALS[name].title} could not be prepared. Tried:\n"
        + "".join(f"  - {problem}\n" for problem in problems)
        + f"What to do: where there is internet, download {files} (plain or .gz) from one of\n"
        + "".join(f"  {mirror}\n" for mirror in ORIGINALS[name].mirrors)
        + f"copy them into a folder here, and give: {COMMAND.format(name)} --from FOLDER"
    )


def listing(folder: Path | None = None) -> list[Entry]:
    """What is there of every data set."""
    folder = folder or store.cache_folder()
    digits = Path(__file__).with_name("digits.npz")
    entries = [Entry("digits", "embedded", "part of this package", digits, digits.stat().st_size)]
    for name in ORIGINALS:
        file = store.file_of(name, folder)
        try:
            source = store.load(name, folder).source
            entries.append(Entry(name, "ready", source, file, file.stat().st_size))
        except DataError as error:
            state = "damaged" if file.exists() else "missing"
            size = file.stat().st_size if file.is_file() else 0
            entries.append(Entry(name, state, str(error), file, size, COMMAND.format(name)))
    return entries
