"""Whether the configurations train as they did at an earlier commit: every metric of short runs, then and now, by the digit.

    python benchmarks/same_as_before.py --against main
    python benchmarks/same_as_before.py --against v1 --loose ssvae/dense --there signal_game/gumbel:estimator.temperature=0.5

Both versions train one seed of some configurations of every task, 100 steps on one thread of the processor, and evaluate at the
end; each from the file of that name that it has itself, in processes of its own. All that both write into ``metrics.jsonl``
is compared, but for times. Exit codes: 0 the same, 1 a difference or a run that failed, 2 wrong input.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
RUNS = {
    "signal_game": ("sparsemax", "gumbel", "score_function"),
    "vae": ("dense", "gumbel", "sparsemax"),
    "bit_vector_vae": ("top_k_sparsemax", "sparse_map", "score_function"),
    "ssvae": ("sparsemax", "dense", "sum_and_sample"),
}
SHORT = {"train.steps": "100", "train.log_every": "50", "train.evaluate_every": "100", "seed": "0"}
MODELS = {"data.name": "digits", "model.importance_samples": "4"}
OVERRIDES = {
    "signal_game": SHORT,
    "vae": SHORT | MODELS,
    "bit_vector_vae": SHORT | MODELS,
    "ssvae": SHORT | MODELS | {"train.warm_start_steps": "20"},
}
"""Keys that every version has had."""
LOOSE = 1e-5
TIMES = "time/"

Metrics = dict[tuple[int, str], float]
"""What ``metrics.jsonl`` says, by step and name."""


class WrongInput(Exception):
    """An argument is wrong; the message says which and what would be right."""


class Failed(Exception):
    """A run did not come to its end; the message is what it said."""


@dataclass(frozen=True)
class Version:
    """A version of the project: the folder it is in, and overrides that only it needs."""

    tree: Path
    overrides: dict[str, list[str]]
    names: dict[str, str]

    def train(self, configuration: str, out: Path) -> Metrics:
        """Run a configuration in a process of its own.

        Raises:
            Failed: if the command does.
        """
        file = f"configs/{self.names.get(configuration, configuration)}.yaml"
        common = [f"{key}={value}" for key, value in OVERRIDES[configuration.split("/")[0]].items()]
        command = [sys.executable, "-m", "latent", "run", file, "--out", str(out), *common, *self.overrides[configuration]]
        done = subprocess.run(command, cwd=self.tree, env=self._environment(), capture_output=True, text=True, check=False)
        if done.returncode:
            raise Failed(done.stderr.strip() or f"exit code {done.returncode}")
        (written,) = out.glob("*/runs/*/metrics.jsonl")
        rows = [json.loads(line) for line in written.read_text().splitlines()]
        return {(row["step"], name): row[name] for row in rows for name in row if not name.startswith(TIMES)}

    def check(self) -> None:
        """See that its own code is run, and not that of an installation.

        Raises:
            Failed: if not.
        """
        code = "import estimators, games, latent; print(*(each.__file__ for each in (estimators, games, latent)), sep='\\n')"
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, cwd=self.tree, env=self._environment(), capture_output=True, text=True, check=False)
        files = done.stdout.splitlines()
        if done.returncode or not all(Path(file).resolve().is_relative_to(self.tree.resolve()) for file in files):
            raise Failed(f"the code in {self.tree} cannot be run: {done.stderr.strip() or ' '.join(files)}")

    def _environment(self) -> dict[str, str]:
        alone = {"PYTHONPATH": str(self.tree), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "WANDB_MODE": "disabled"}
        return os.environ | alone


@dataclass(frozen=True)
class Comparison:
    """Of two versions of one run: how many metrics both have and only one has, and where they differ most."""

    both: int
    here: int
    there: int
    difference: float
    where: str

    @classmethod
    def of(cls, here: Metrics, there: Metrics) -> Comparison:
        shared = here.keys() & there.keys()
        worst = max(shared, key=lambda key: (relative(here[key], there[key]), key), default=None)
        difference = math.inf if worst is None else relative(here[worst], there[worst])
        where = f"{worst[1]} at step {worst[0]}" if worst and difference else ""
        names = [{name for _, name in each} for each in (here, there)]
        return cls(len(shared), len(names[0] - names[1]), len(names[1] - names[0]), difference, where)


def relative(a: float, b: float) -> float:
    """The difference of two numbers, relative to the larger; 0 where both are the same, though they be infinite or none."""
    if a == b or (a != a and b != b):
        return 0.0
    difference = abs(a - b) / max(abs(a), abs(b))
    return difference if math.isfinite(difference) else math.inf


@contextlib.contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """A commit in a folder of its own, for a while."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        git = ["git", "-C", str(ROOT), "worktree"]
        made = subprocess.run([*git, "add", "--detach", str(tree), commit], capture_output=True, text=True, check=False)
        if made.returncode:
            raise WrongInput(f"--against {commit}: {made.stderr.strip()}")
        try:
            yield tree
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], capture_output=True, check=True)


def compare(here: Version, there: Version, configuration: str) -> Comparison | Failed:
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = [each.train(configuration, Path(folder) / str(i)) for i, each in enumerate((here, there))]
        except Failed as error:
            return error
    return Comparison.of(*found)


def by_configuration(texts: Sequence[str]) -> dict[str, list[str]]:
    """Overrides as the command line has them, CONFIGURATION:KEY=VALUE, by configuration."""
    found: dict[str, list[str]] = defaultdict(list)
    for text in texts:
        configuration, override = halves(text, ":")
        found[known(configuration)].append(override)
    return found


def halves(text: str, mark: str) -> tuple[str, str]:
    before, found, after = text.partition(mark)
    if not found:
        raise WrongInput(f"{text} has no {mark!r} in it")
    return before, after


def known(configuration: str) -> str:
    if configuration not in CONFIGURATIONS:
        raise WrongInput(f"{configuration} must be one of {', '.join(CONFIGURATIONS)}")
    return configuration


def main() -> int:
    """Print the table; returns the exit code."""
    asked = arguments()
    loose = set(map(known, asked.loose))
    renamed = {known(new): old for new, old in (halves(text, "=") for text in asked.was)}
    chosen = list(map(known, asked.only)) or CONFIGURATIONS
    print("| configuration | metrics compared | only here | only there | largest relative difference | |")
    print("|---|---|---|---|---|---|")
    same = True
    with checked_out(asked.against) as tree, ThreadPoolExecutor(asked.jobs) as pool:
        here = Version(ROOT, by_configuration(asked.here), {})
        there = Version(tree, by_configuration(asked.there), renamed)
        here.check()
        there.check()
        for configuration, found in zip(chosen, pool.map(lambda name: compare(here, there, name), chosen), strict=True):
            tolerance = max(asked.tolerance, LOOSE * (configuration in loose))
            line, good = said(found, tolerance)
            same &= good
            print(f"| {configuration} | {line} |", flush=True)
    return 0 if same else 1


CONFIGURATIONS = [f"{task}/{name}" for task, names in RUNS.items() for name in names]


def said(found: Comparison | Failed, tolerance: float) -> tuple[str, bool]:
    """A line of the table, and whether it is good."""
    if isinstance(found, Failed):
        return f"| | | | failed: {' '.join(str(found).split())[-300:]}", False
    good = found.difference <= tolerance
    verdict = "bit for bit" if not found.difference else f"{'within' if good else 'MORE THAN'} {tolerance:g}: {found.where}"
    return f"{found.both} | {found.here} | {found.there} | {found.difference:.1e} | {verdict}", good


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--against", required=True, metavar="COMMIT", help="the version to compare with")
    add("--tolerance", type=float, default=0.0, help="the largest relative difference that is none; 0 by default")
    add("--loose", nargs="*", default=[], metavar="CONFIG", help=f"configurations, as vae/dense, with a tolerance of {LOOSE:g}")
    add("--here", nargs="*", default=[], metavar="CONFIG:KEY=VALUE", help="overrides that this version alone needs")
    add("--there", nargs="*", default=[], metavar="CONFIG:KEY=VALUE", help="overrides that the other version alone needs")
    add("--was", nargs="*", default=[], metavar="CONFIG=OLD", help="names that files have in the other version")
    add("--only", nargs="*", default=[], metavar="CONFIG", help="these configurations; all by default")
    add("--jobs", type=int, default=os.cpu_count() or 1, help="configurations at a time; one for each processor by default")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (WrongInput, Failed) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
