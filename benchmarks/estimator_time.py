"""Time of what estimators do beside decoding, against the score function's step and against ``torch.distributions``.

    python benchmarks/estimator_time.py [--repeats 300] [--only "on bits"]

Everything runs in this process, on one thread, over batches of 64. A step proposes, combines, and differentiates the surrogate,
the entropy and the estimator's own loss, down to the scores. Its decoder costs next to nothing: losses that are there already,
or the product of the latents with a vector where the estimator differentiates the loss in them. Times are those of the
processor, so that other processes count for little. Steps that are compared alternate, and a ratio is that of their medians.

The first table holds exact searches over bit vectors, and the time that each is to stay within. The second compares with
``torch.distributions``: with as many draws as the estimator makes, and the entropy and its gradient. The reference weighs

- of a *sample*, its log-probability by a given advantage;
- of a *distinct* sample, the same, but no state is drawn twice;
- of an *rsample*, the product of relaxed draws with a vector, and with *log_prob* their log-density by a given advantage. A
  relaxed distribution has no entropy there: it is that of the distribution which it relaxes.

A network that an estimator has, runs in its reference too. *Unchecked* is the reference with ``validate_args=False``.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, distributions, nn

import estimators
from estimators import BitVector, Categorical, RandomDraws

BATCH, CATEGORIES, BITS, FEATURES, HIDDEN, TEMPERATURE, ENTROPY = 64, 256, 32, 128, 64, 1.0, 0.1
WARM_UP = 20
DIFFERENTIATES_LOSS = ("rebar", "relax", "straight_through", "reinmax", "gumbel_softmax", "gumbel_rao")
RSAMPLES = ("rsample, log_prob", "rsample")
Step = Callable[[], object]


class Row(NamedTuple):
    """An estimator and its references: how many draws, of which kinds, and whether a network runs beside them."""

    name: str
    options: dict[str, object]
    draws: int = 1
    references: tuple[str, ...] = ("sample",)
    bits: bool = False
    network: bool = False

    @property
    def label(self) -> str:
        options = ", ".join(f"{key}={value}" for key, value in self.options.items())
        return f"{self.name}({options})" + (" on bits" if self.bits else "")


def score_functions(bits: bool) -> list[Row]:
    rows = []
    for baseline in ("none", "moving_average", "self_critic", "sampled_self_critic", "leave_one_out", "nvil"):
        for samples in (4,) if baseline == "leave_one_out" else (1, 4):
            options = {"samples": samples, "baseline": baseline}
            draws = samples + (baseline == "sampled_self_critic")
            rows.append(Row("score_function", options, draws, bits=bits, network=baseline == "nvil"))
    return rows


ROWS = [
    *score_functions(bits=False),
    *score_functions(bits=True),
    Row("sum_and_sample", {}),
    Row("sum_and_sample", {"summed": 4}),
    Row("unordered_set", {"samples": 4}, 4, ("sample", "distinct")),
    Row("vimco", {"samples": 4}, 4),
    Row("vimco", {"samples": 4}, 4, bits=True),
    Row("disarm", {}, 2, bits=True),
    Row("arms", {"samples": 4}, 4, bits=True),
    Row("straight_through", {}),
    Row("straight_through", {}, bits=True),
    Row("reinmax", {}),
    Row("gumbel_softmax", {}, 1, RSAMPLES),
    Row("gumbel_softmax", {"straight_through": True}, 1, RSAMPLES),
    Row("gumbel_rao", {"noise_samples": 10}, 10, RSAMPLES),
    Row("gumbel_softmax", {}, 1, RSAMPLES, bits=True),
    Row("gumbel_softmax", {"straight_through": True}, 1, RSAMPLES, bits=True),
    Row("rebar", {"learned": False}, 2, RSAMPLES),
    Row("rebar", {}, 2, RSAMPLES),
    Row("relax", {}, 2, RSAMPLES, network=True),
]


@functools.cache
def given_losses(pairs: int) -> Tensor:
    return torch.randn(pairs, requires_grad=True)


def random_scores(size: int) -> Tensor:
    return torch.randn(BATCH, size, requires_grad=True)


def forget(leaves: Iterable[Tensor]) -> None:
    for leaf in leaves:
        leaf.grad = None


def own_step(name: str, scores: Tensor, bits: bool = False, **options: object) -> Step:
    """The estimator's step, without a decoder."""
    estimator, draws = estimators.build(name, **options), RandomDraws()
    context, vector = torch.randn(BATCH, FEATURES), torch.randn(scores.shape[1])
    leaves = [scores, *estimator.parameters()]

    def step() -> None:
        forget(leaves)
        space = BitVector(scores) if bits else Categorical(scores)
        proposal = estimator.propose(space, draws, context)
        losses = proposal.pairs.value @ vector if name in DIFFERENTIATES_LOSS else given_losses(len(proposal))
        estimate = estimator.combine(proposal, losses)
        (estimate.surrogate.mean() - ENTROPY * estimate.entropy.mean() + estimate.auxiliary).backward()

    return step


def weighed(reference: str, row: Row, scores: Tensor, checked: bool | None) -> tuple[Tensor, Tensor]:
    """Draws as vectors or states, and what their advantage or a vector is to weigh."""
    options = {"logits": scores, "validate_args": checked}
    plain = distributions.Bernoulli(**options) if row.bits else distributions.Categorical(**options)
    hard = distributions.Independent(plain, 1, checked) if row.bits else plain
    if reference == "distinct":
        return hard.entropy(), hard.log_prob(torch.multinomial(hard.probs, row.draws).T)
    if reference == "sample":
        return hard.entropy(), hard.log_prob(hard.sample((row.draws,)))
    relaxed = distributions.RelaxedBernoulli if row.bits else distributions.RelaxedOneHotCategorical
    soft = relaxed(torch.tensor(TEMPERATURE), **options)
    soft = distributions.Independent(soft, 1, checked) if row.bits else soft
    z = soft.rsample((row.draws,))
    return hard.entropy(), z if reference == "rsample" else soft.log_prob(z)


def reference_step(reference: str, row: Row, scores: Tensor, checked: bool | None) -> Step:
    """As many draws from ``torch.distributions``."""
    weights = torch.randn(scores.shape[1]) if reference == "rsample" else torch.randn(row.draws, BATCH)
    size = scores.shape[1] if reference.startswith("rsample") else FEATURES  # networks of relaxed draws, or of the context
    network = nn.Sequential(nn.Linear(size, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 1))
    features = torch.randn(row.draws if reference.startswith("rsample") else 1, BATCH, size)
    leaves = [scores, *(network.parameters() if row.network else ())]

    def step() -> None:
        forget(leaves)
        entropy, values = weighed(reference, row, scores, checked)
        objective = (values @ weights if reference == "rsample" else values * weights).mean() - ENTROPY * entropy.mean()
        if row.network:
            objective = objective + network(features).square().mean()
        objective.backward()

    return step


def interleaved(steps: list[Step], repeats: int) -> list[float]:
    """Median processor times of steps whose calls alternate, in milliseconds."""
    times: list[list[float]] = [[] for _ in steps]
    for repeat in range(repeats + WARM_UP):
        for step, record in zip(steps, times, strict=True):
            begun = time.process_time()
            step()
            if repeat >= WARM_UP:
                record.append(time.process_time() - begun)
    return [statistics.median(record) * 1e3 for record in times]


def searches(repeats: int, only: str) -> Table:
    columns = ("search", "bits", "ms", "limit, ms", "score function, ms", "ratio")
    table = Table(*columns, title="exact searches over bit vectors, one thread")
    for label, bits, limit, step in (
        ("k_best(10)", 32, 5, lambda scores: lambda: BitVector(scores).k_best(10)),
        ("k_best(10)", 128, 60, lambda scores: lambda: BitVector(scores).k_best(10)),
        ("sparse_map()", 128, 10, lambda scores: own_step("sparse_map", scores, bits=True)),
        ("sparse_map(budget=64)", 128, 10, lambda scores: own_step("sparse_map", scores, bits=True, budget=64)),
    ):
        if only in label:
            scores = random_scores(bits)
            own, baseline = interleaved([step(scores), own_step("score_function", scores, bits=True)], repeats)
            table.add_row(label, str(bits), f"{own:.2f}", str(limit), f"{baseline:.2f}", f"{own / baseline:.2f}")
    return table


def samplers(repeats: int, only: str) -> Table:
    columns = ("estimator", "draws", "against", "ms", "ms", "ratio", "unchecked, ms", "ratio")
    table = Table(*columns, title=f"samples of {CATEGORIES} categories or {BITS} bits, one thread")
    for row in ROWS:
        if only not in row.label:
            continue
        scores = random_scores(BITS if row.bits else CATEGORIES)
        steps = [own_step(row.name, scores, row.bits, **row.options)]
        steps += [reference_step(kind, row, scores, checked) for kind in row.references for checked in (None, False)]
        own, *others = interleaved(steps, repeats)
        for kind, checked, unchecked in zip(row.references, others[::2], others[1::2], strict=True):
            times = (f"{own:.3f}", f"{checked:.3f}", f"{own / checked:.2f}", f"{unchecked:.3f}", f"{own / unchecked:.2f}")
            table.add_row(row.label, str(row.draws), kind, *times)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=300, help="timed calls of each step (default: %(default)s)")
    parser.add_argument("--only", default="", metavar="TEXT", help="only the rows whose first column holds this text")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    for table in (searches, samplers):
        result = table(arguments.repeats, arguments.only)
        if result.row_count:
            Console(width=150).print(result)


if __name__ == "__main__":
    main()
