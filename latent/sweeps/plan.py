"""What a sweep consists of: every combination of configuration, grid cell and seed, each with the directory that it runs in."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from latent.experiment import checkpoint
from latent.experiment.configuration import load, read_sweep, sweep_settings
from latent.experiment.experiment import directory_of, prepare
from latent.experiment.overrides import Override, override, parse_value, split_key
from latent.experiment.run_directory import Damaged, RunDirectory, RunError, RunInUse
from latent.experiment.settings import UNNOTICED
from latent.experiment.yaml_source import ConfigurationError, Key, Mark, Source, flatten

MOST_RUNS = 100_000
NOT_IN_A_GRID = ("task", "experiment", "seed", "device", "tracking", *(f"train.{name}" for name in UNNOTICED))


@dataclass(frozen=True)
class PlannedRun:
    """One run of a sweep.

    Attributes:
        directory: where it runs.
        configuration: complete, with every default.
        source: the file that the configuration comes from.
        grid: what the sweep's grid sets in it.
        cell: the directory's name without the seed: runs of one cell differ in nothing else.
    """

    directory: RunDirectory
    configuration: dict[str, Any]
    source: Path
    grid: dict[str, Any]
    cell: str

    @property
    def steps(self) -> int:
        """All of its steps, those of a warm start too."""
        train = self.configuration["train"]
        return int(train["steps"] + train["warm_start_steps"])

    def write(self) -> None:
        """Write down all that the run starts from, where something of it is not there; that of a finished run stays as it is.

        The grid is joined with those of other sweeps that have the run in common. A run that another process works on has its
        configuration, and other runs have the keys of the grid.
        """
        if not self._lacks():
            return
        with contextlib.suppress(RunInUse), self.directory.locked():
            try:
                for write in self._lacks():
                    write()
            except OSError as error:
                raise RunError(f"cannot write to {self.directory.path}: {error.strerror or error}") from error

    def forget(self) -> None:
        """Forget all that earlier runs left."""
        with self.directory.locked():
            self.directory.clear()

    def is_damaged(self) -> bool:
        """Whether the run must be run anew, for its files are not what it wrote."""
        try:
            checkpoint.check(self.directory, f"{self.configuration['experiment']}/{self.directory.path.name}")
        except Damaged:
            return True
        return False

    def forget_failure(self) -> None:
        """Forget why the run failed, so that it goes on from its checkpoint; where its files are damaged, forget all."""
        if not self.directory.error.exists() and not self.is_damaged():
            return
        with contextlib.suppress(RunInUse), self.directory.locked():
            if self.is_damaged():
                self.directory.clear()
            self.directory.error.unlink(missing_ok=True)

    def _lacks(self) -> list[Callable[[], None]]:
        files, missing = self.directory, []
        try:
            before = files.grid()
            joined = before | self.grid
        except Damaged:
            before, joined = None, self.grid
        if joined != before:
            missing.append(lambda: files.write_plan(joined))
        if not (files.done.exists() and files.configuration.exists()):
            missing.append(lambda: files.write_configuration(self.configuration))
        return missing


def parse_seeds(text: str) -> int | list[int]:
    """``10``: as many seeds, from 0 on; ``3,5,7``: these.

    Raises:
        ConfigurationError: if it is neither.
    """
    origin = Mark(f"command line, --seeds {text}")
    try:
        seeds = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        seeds = []
    if not seeds or min(seeds) < ("," not in text) or max(seeds) >= 2**63:
        raise ConfigurationError.at(origin, "must be a number of seeds, as in 10, or a list of them, as in 3,5,7")
    return seeds if "," in text else seeds[0]


def parse_grid(text: str) -> tuple[str, list[Any]]:
    """``KEY=VALUE,VALUE,...``: a dotted key and the values to try.

    Raises:
        ConfigurationError: if it is not of that form.
    """
    origin = Mark(f"command line, --grid {text[:200]}")
    key, separator, values = text.partition("=")
    parsed = parse_value(values if values.strip().startswith("[") else f"[{values}]", origin)
    if not separator or not split_key(key) or not isinstance(parsed, list) or not parsed:
        raise ConfigurationError.at(origin, "must be KEY=VALUE,VALUE,..., as in train.learning_rate=1e-3,5e-3")
    return key.strip(), parsed


@dataclass(frozen=True)
class Resources:
    """What runs are run with; see :class:`~latent.experiment.settings.Sweep`."""

    launcher: str
    workers: int | None
    gpus: float | None
    slurm: dict[str, Any]
    address: str | None


def resources(files: Sequence[Path], launcher: str | None, workers: int | None, address: str | None) -> Resources:
    """What the command line says, else the files.

    Raises:
        ConfigurationError: if a file is wrong, or two files contradict each other.
    """
    blocks = [block for file in files for _, block in [read_sweep(file)]]
    said: dict[str, Any] = {}
    given = {"launcher": launcher, "workers": workers}
    for block in blocks:
        own = sweep_settings(block)
        for key in ("launcher", "workers", "gpus", "slurm"):
            if (
                given.get(key) is None
                and key in own.model_fields_set
                and said.setdefault(key, getattr(own, key)) != getattr(own, key)
            ):
                raise ConfigurationError.at(block.mark((key,)), f"sweep.{key}: another file of the sweep says {said[key]!r}")
    if launcher is not None:
        origin = Source({"launcher": launcher}, {("launcher",): Mark("command line, --launcher")})
        said["launcher"] = sweep_settings(origin).launcher
    return Resources(
        said.get("launcher") or "local", workers or said.get("workers"), said.get("gpus"), said.get("slurm", {}), address
    )


@dataclass(frozen=True)
class _Member:
    """A configuration file of a sweep, and what the sweep makes of it."""

    file: Path
    overrides: list[Override]
    seeds: int | list[int] | None
    grid: list[tuple[Key, list[Any], Mark]]


def plan(
    files: Sequence[Path],
    overrides: Sequence[Override],
    out: Path,
    seeds: int | list[int] | None = None,
    grid: dict[str, list[Any]] | None = None,
) -> list[PlannedRun]:
    """Every run of a sweep, checked, in an order in which each seed is run for all before the next.

    Args:
        files: experiments, or sweeps of several.
        overrides: for every run.
        out: the folder of the results.
        seeds: as in a file's block ``sweep``, before which it comes.
        grid: likewise.

    Raises:
        ConfigurationError: with the place of every mistake of the first run that has one.
    """
    contents: dict[str, Any] = {}
    runs: dict[Path, PlannedRun] = {}
    for file in files:
        for member in _members(file):
            member = replace(member, overrides=[*overrides, *member.overrides], seeds=member.seeds if seeds is None else seeds)
            if grid:
                given = [(split_key(key), values, Mark(f"command line, --grid {key}")) for key, values in grid.items()]
                member = replace(member, grid=given)
            for run in _runs(member, out, contents):
                before = runs.get(run.directory.path, run)
                runs[run.directory.path] = replace(run, grid=before.grid | run.grid)
                if len(runs) > MOST_RUNS:
                    raise ConfigurationError.at(Mark(str(file)), f"a sweep of more than {MOST_RUNS:,} runs is refused")
    return sorted(runs.values(), key=lambda run: run.configuration["seed"])


def _members(file: Path) -> list[_Member]:
    """What a file's own block ``sweep`` makes of it; the blocks of files that it names are not looked at."""
    source, block = read_sweep(file)
    own = sweep_settings(block)
    grid = [(_key(block, "grid", key), values, block.mark(("grid", key))) for key, values in own.grid.items()]
    shared = _overrides(own.overrides, block, ("overrides",))
    if own.configurations is None:
        return [_Member(file, shared, own.seeds, grid)]
    if source.data:
        key = next(iter(source.data))
        raise ConfigurationError.at(source.mark((key,)), f"{key}: a file with sweep.configurations has no key but sweep")
    folder = Path(block.mark(("configurations",)).source).parent
    several = own.configurations if isinstance(own.configurations, dict) else dict.fromkeys(own.configurations)
    members = []
    for name, settings in several.items():
        if not (folder / name).is_file():
            mark = block.mark(("configurations", name))
            raise ConfigurationError.at(mark, f"sweep.configurations: there is no file {str(folder / name)!r}")
        of_its_own = _overrides(settings or {}, block, ("configurations", name))
        members.append(_Member(folder / name, [*shared, *of_its_own], own.seeds, grid))
    return members


def _overrides(settings: dict[str, Any], block: Source, place: Key) -> list[Override]:
    return [override(_key(block, *place, key), value, block.mark((*place, key))) for key, value in settings.items()]


def _key(block: Source, *place: str) -> Key:
    key = split_key(place[-1])
    if not key:
        raise ConfigurationError.at(block.mark(place), f"sweep.{place[0]}: {place[-1]!r} is no dotted key, such as train.steps")
    return key


def _runs(member: _Member, out: Path, contents: dict[str, Any]) -> Iterator[PlannedRun]:
    """The runs of one file. The parts of each cell are built once: seeds decide no mistake and no hash."""
    for key, _, mark in member.grid:
        dotted = ".".join(key)
        if any(dotted == no or dotted.startswith(f"{no}.") for no in NOT_IN_A_GRID):
            raise ConfigurationError.at(
                mark, f"{dotted} cannot be in a grid: there is nothing to choose by it, or it is the sweep's"
            )
    for values in itertools.product(*(values for _, values, _ in member.grid)):
        chosen = [override(key, value, mark) for (key, _, mark), value in zip(member.grid, values, strict=True)]
        seeds = range(member.seeds) if isinstance(member.seeds, int) else member.seeds
        seed = [override(("seed",), seed, Mark("seeds of the sweep")) for seed in (seeds or [])[:1]]
        for path, given in [*member.overrides, *chosen]:
            if seed and path == ("seed",):
                raise ConfigurationError.at(given.marks[path], "seed cannot be given beside the seeds of the sweep")
        configuration = load(member.file, [*member.overrides, *chosen, *seed])
        digest = prepare(configuration, out, contents).digest
        set_here = zip(member.grid, values, strict=True)
        grid = flatten({".".join(key): configuration.in_full(key, value) for (key, _, _), value in set_here})
        if isinstance(configuration.data["data"].get("path"), str):  # whoever runs it may have another working directory
            configuration.data["data"]["path"] = str(Path(configuration.data["data"]["path"]).expanduser().absolute())
        for number in seeds or [configuration.data["seed"]]:
            data = configuration.data | {"seed": number}
            yield PlannedRun(directory_of(data, digest, out), data, member.file, grid, f"{data['estimator']['name']}-{digest}")
