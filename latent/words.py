"""Metrics as whoever measures them declares them, and how they and counts are written, wherever people read them.

A metric's *key* has its split before its name, as in ``val/entropy``; that of a metric of the whole run is its name alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

SPLITS = {"test": "", "val": "validation ", "train": "training "}
"""How the split of a metric is said; that of the test split is not."""

Better = Literal["higher", "lower"]
Place = Literal["summary", "table", "page", "validation", "curve", "training", "ends", "workspace", "bars"]
PLACES: Mapping[Place, str] = {
    "summary": "what `latent run` prints in the end",
    "table": "columns of `latent table`",
    "page": "columns of the results of `latent report`",
    "validation": "columns of `latent table --cells` and `--curves`, and the first charts of the workspace",
    "curve": "a chart of `latent report`: validation over steps",
    "training": "a chart of `latent report` and of the workspace: means in training over steps",
    "ends": "a chart of `latent report`: finished runs, on the test split",
    "workspace": "further charts of `latent wandb workspace`: validation over decoder calls",
    "bars": "bars of `latent wandb workspace`: finished runs, on the test split",
}
"""Where metrics are shown. The headline metric of a task has its place in the first four of them without being declared so."""


@dataclass(frozen=True)
class Metric:
    """A number that a task measures: what it is called, and where people are shown it.

    Args:
        name: without its split. Of one that ends in ``/*``, any name that begins so is meant, and in ``words`` the star stands
            for the rest.
        words: what it is; up to the first comma, in few words.
        unit: ``%`` for a fraction of one, which is written in per cent; else such as ``nats``; of a count, none.
        better: which of two values is; None if that cannot be said.
        shown: places, of which ``PLACES`` says more; in each, metrics stand in the order in which they are declared.
        decimals: digits behind the point. Unless given: two where there is a unit, else as many as make four digits in all.
        of_run: whether it is of the whole run and has no split.
        logarithmic: whether the axes of charts are.
        remark: what stands beside its chart.
        against: name of the metric that its chart ``ends`` has across, in the place of the decoder calls.
        level: name of the metric that is minus the sum of this one and ``against``: where it is constant, the chart has lines.

    Raises:
        ValueError: if a place is none, or ``level`` has no ``against``.
    """

    name: str
    words: str
    unit: str = ""
    better: Better | None = None
    shown: tuple[Place, ...] = ("summary",)
    decimals: int | None = None
    of_run: bool = False
    logarithmic: bool = False
    remark: str = ""
    against: str = ""
    level: str = ""

    def __post_init__(self) -> None:
        for place in self.shown:
            if place not in PLACES:
                raise ValueError(f"the metric {self.name!r} cannot be shown in {place!r}; there are: {', '.join(PLACES)}")
        if self.better not in (None, *get_args(Better)):
            raise ValueError(f"of the metric {self.name!r} better is higher or lower, not {self.better!r}")
        if self.level and not self.against:
            raise ValueError(f"the metric {self.name!r} has a level, but no metric that it is drawn against")

    @property
    def is_fraction(self) -> bool:
        """Whether it is a fraction of one, which is written in per cent."""
        return self.unit == "%"

    def key(self, split: str) -> str:
        """Its name in the rows and the summary of a run."""
        return self.name if self.of_run else f"{split}/{self.name}"

    def rank(self, value: float) -> float:
        """A number that is the smaller, the better a value is; where none is better, the larger the value is."""
        return value if self.better == "lower" else -value

    def reaches(self, value: float, goal: float) -> bool:
        """Whether a value is as good as another one."""
        return self.rank(value) <= self.rank(goal)

    @property
    def sign(self) -> str:
        """That between it and a value that it is to reach."""
        return "≤" if self.better == "lower" else "≥"

    @property
    def superlative(self) -> str:
        """What the best value is."""
        return "lowest" if self.better == "lower" else "highest"

    def of(self, key: str) -> Measured:
        """The metric on the split that a key says; its words, where its name ends in a star."""
        if not self.name.endswith("*"):
            return Measured(key, self.words, self)
        return Measured(key, self.words.replace("*", key.removeprefix(self.name[:-1]).replace("_", " ")), self)


@dataclass(frozen=True)
class Measured:
    """A metric on a split, as in ``val/entropy``: how it and its values are written.

    Attributes:
        key: with the split.
        name: what the metric is in words, without the split.
        metric: as it is declared.
    """

    key: str
    name: str
    metric: Metric

    @property
    def unit(self) -> str:
        """Its unit; ``%`` is of a fraction."""
        return self.metric.unit

    @property
    def is_fraction(self) -> bool:
        """Whether it is written in per cent."""
        return self.metric.is_fraction

    @property
    def words(self) -> str:
        """``validation entropy of q``; that it is of the test split is not said."""
        split, _, rest = self.key.partition("/")
        return (SPLITS.get(split, "") if rest and not self.metric.of_run else "") + self.name

    @property
    def short(self) -> str:
        """In few words."""
        return self.words.partition(",")[0]

    @property
    def title(self) -> str:
        """As the title of an axis, ``validation entropy of q (nats)``; ticks have percent signs of their own."""
        return self._with_unit(self.words)

    @property
    def short_title(self) -> str:
        """The same in few words, with the test split said."""
        return self._with_unit(self.short_on_split)

    @property
    def short_on_split(self) -> str:
        """In few words, with the test split said."""
        return self._test + self.short

    @property
    def heading(self) -> str:
        """With its split and unit, as over a column: ``test entropy of q (nats)``."""
        return f"{self._test}{self.words} ({self.unit})" if self.unit else self._test + self.words

    @property
    def _test(self) -> str:
        return "test " if self.key.startswith("test/") else ""

    def _with_unit(self, words: str) -> str:
        return f"{words} ({self.unit})" if self.unit and not self.is_fraction else words

    def style(self, values: Iterable[float]) -> Style:
        """How values are written below each other."""
        if self.is_fraction or self.unit or self.metric.decimals is not None:
            decimals = 2 if self.metric.decimals is None else self.metric.decimals
            return Style(100 if self.is_fraction else 1, decimals)
        largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
        return Style(1, min(9, max(0, 3 - math.floor(math.log10(largest)))) if largest else 2)

    def write(self, value: float) -> str:
        """A value of one run, on its own."""
        counted = isinstance(value, int) and not self.unit
        return f"{value:,}".replace("-", "−") if counted else self.style([value]).write(value)

    def in_short(self, value: float) -> str:
        """A value as progress shows it, with one decimal and its per cent: ``83.5%``."""
        return f"{value:.1%}" if self.is_fraction else f"{value:.1f}" if self.unit else f"{value:.4g}"


class Style(NamedTuple):
    """How the values of a metric are written: the factor of its unit, and decimals."""

    factor: float
    decimals: int

    def write(self, value: float, sign: str = "-") -> str:
        """A value with thousands separators and a minus that is as long as a plus; ``sign`` is of :class:`str.format`."""
        text = f"{self.factor * value:{sign},.{self.decimals}f}"
        zero = not text.strip("+-0.,")
        return (text.lstrip("+-") if zero else text).replace("-", "−")


def bare(name: str) -> Metric:
    """A metric that nobody declares, by its name alone."""
    return Metric(name, name.replace("/", ", ").replace("_", " "), shown=())


def capital(words: str) -> str:
    """Words with a capital letter, as they begin a heading."""
    return words[:1].upper() + words[1:]


def numbered(count: int, word: str) -> str:
    """``1 run``, ``1,200 runs``."""
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"


def listed(words: Sequence[str]) -> str:
    """``a, b and c``."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def is_number(value: Any) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
