"""Time of what the estimators do beside decoding, against the score function's step and against ``torch.distributions``.

    python benchmarks/estimator_time.py [--repeats 300] [--only bit_vector]

Everything runs in this process, on one thread, over batches of 64. A step proposes, combines and differentiates the surrogate
and the entropy down to the scores. Its decoder costs next to nothing: losses that are there already, or the product of the
latents with a fixed vector where the estimator differentiates the loss in them. Steps that are compared alternate, and a ratio
is that of their medians.

The first table holds the exact searches over bit vectors, with the time each is to stay within. In the second, the reference makes
as many draws as the estimator from the distribution of ``torch.distributions``, weighs their log-probabilities by given
advantages, and differentiates that and the entropy; *unchecked* is the same with ``validate_args=False``. Relaxed
distributions have no entropy there: it is that of the distribution they relax. A network that an estimator has, runs in its
reference too. Rows marked *rsample* differentiate the product of relaxed draws with a vector, and leave their density out.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, distributions, nn

import estimators
from estimators import BitVector, RandomDraws

BATCH, CATEGORIES, BITS, FEATURES, HIDDEN, TEMPERATURE, ENTROPY = 64, 256, 32, 128, 64, 1.0, 0.1
RELAXED = ("rebar", "relax", "straight_through", "reinmax", "gumbel_softmax", "gumbel_rao", "binary_concrete")
Step = Callable[[], object]


class Row(NamedTuple):
    """An estimator and its reference: how many draws, of what kind, and whether there is a network."""

    name: str
    options: dict[str, object] = {}
    draws: int = 1
    reference: str = "sample"
    bits: bool = False
    network: bool = False

    @property
    def label(self) -> str:
        options = ", ".join(f"{key}={value}" for key, value in self.options.items() if key != "space")
        return f"{self.name}({options})" + (" on bits" if self.bits else "")


def score_functions(bits: bool) -> list[Row]:
    space = {"space": "bit_vector"} if bits else {}
    rows = [Row("score_function", {**space, "samples": s}, s, bits=bits) for s in (1, 4)]
    for baseline in ("moving_average", "self_critic", "sampled_self_critic", "leave_one_out", "nvil"):
        for samples in (4,) if baseline == "leave_one_out" else (1, 4):
            draws = samples + (baseline == "sampled_self_critic")
            options = {**space, "samples": samples, "baseline": baseline}
            rows.append(Row("score_function", options, draws, bits=bits, network=baseline == "nvil"))
    return rows


def relaxed(name: str, draws: int = 1, bits: bool = False, network: bool = False, **options: object) -> list[Row]:
    kinds = ("rsample, log_prob", "rsample")
    return [Row(name, options, draws, kind, bits, network) for kind in kinds]


ROWS = [
    *score_functions(bits=False),
    *score_functions(bits=True),
    Row("sum_and_sample"),
    Row("sum_and_sample", {"summed": 4}),
    Row("unordered_set", {"samples": 4}, 4),
    Row("vimco", {"samples": 4}, 4),
    Row("vimco", {"samples": 4, "space": "bit_vector"}, 4, bits=True),
    Row("disarm", {}, 2, bits=True),
    Row("arms", {"samples": 4}, 4, bits=True),
    Row("straight_through"),
    Row("straight_through", {"space": "bit_vector"}, bits=True),
    Row("reinmax"),
    *relaxed("gumbel_softmax"),
    *relaxed("gumbel_softmax", straight_through=True),
    *relaxed("gumbel_rao", 10),
    *relaxed("binary_concrete", bits=True),
    *relaxed("binary_concrete", bits=True, straight_through=True),
    *relaxed("rebar", 2, learned=False),
    *relaxed("rebar", 2),
    *relaxed("relax", 2, network=True),
]


@functools.cache
def given_losses(pairs: int) -> Tensor:
    return torch.randn(pairs, requires_grad=True)


def random_scores(size: int) -> Tensor:
    return torch.randn(BATCH, size, requires_grad=True)


def forget(leaves: list[Tensor]) -> None:
    for leaf in leaves:
        leaf.grad = None


def own_step(name: str, scores: Tensor, **options: object) -> Step:
    """The estimator's step, without a decoder."""
    estimator, draws = estimators.build(name, **options), RandomDraws()
    context, vector = torch.randn(BATCH, FEATURES), torch.randn(scores.shape[1])
    leaves = [scores, *estimator.parameters()]

    def step() -> None:
        forget(leaves)
        proposal = estimator.propose(scores, draws, context)
        losses = proposal.latents.value @ vector if name in RELAXED else given_losses(len(proposal))
        estimate = estimator.combine(proposal, losses)
        (estimate.surrogate.mean() - ENTROPY * estimate.entropy.mean() + estimate.auxiliary).backward()

    return step


def reference_step(row: Row, scores: Tensor, checked: bool | None) -> Step:
    """The same number of draws from ``torch.distributions``."""
    samples, vector = (row.draws,), torch.randn(scores.shape[1])
    advantage, temperature = torch.randn(row.draws, BATCH), torch.tensor(TEMPERATURE)
    size = scores.shape[1] if row.reference != "sample" else FEATURES
    network = nn.Sequential(nn.Linear(size, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 1))
    context = torch.randn(*samples, BATCH, size) if row.reference != "sample" else torch.randn(BATCH, size)

    leaves = [scores, *(network.parameters() if row.network else ())]

    def step() -> None:
        forget(leaves)
        if row.bits:
            plain = distributions.Independent(distributions.Bernoulli(logits=scores, validate_args=checked), 1, checked)
        else:
            plain = distributions.Categorical(logits=scores, validate_args=checked)
        objective = -ENTROPY * plain.entropy().mean()
        if row.reference == "sample":
            objective = objective + (plain.log_prob(plain.sample(samples)) * advantage).mean()
        else:
            if row.bits:
                base = distributions.RelaxedBernoulli(temperature, logits=scores, validate_args=checked)
                soft = distributions.Independent(base, 1, checked)
            else:
                soft = distributions.RelaxedOneHotCategorical(temperature, logits=scores, validate_args=checked)
            z = soft.rsample(samples)
            weighed = soft.log_prob(z) * advantage if row.reference != "rsample" else z @ vector
            objective = objective + weighed.mean()
        if row.network:
            objective = objective + network(context).square().mean()
        objective.backward()

    return step


def search(scores: Tensor) -> Tensor:
    return BitVector(scores).k_best(10)


def interleaved(steps: list[Step], repeats: int) -> list[float]:
    """Median processor times of steps whose calls alternate, in milliseconds."""
    times: list[list[float]] = [[] for _ in steps]
    for repeat in range(repeats + 20):
        for step, record in zip(steps, times, strict=True):
            begun = time.process_time()
            step()
            if repeat >= 20:
                record.append(time.process_time() - begun)
    return [statistics.median(record) * 1e3 for record in times]


def searches(repeats: int, only: str) -> Table:
    table = Table("search", "bits", "ms", "limit, ms", "score function, ms", "ratio", title="exact searches over bit vectors")
    for label, bits, limit, step in (
        ("k_best(10)", 32, 5, lambda scores: functools.partial(search, scores)),
        ("k_best(10)", 128, 60, lambda scores: functools.partial(search, scores)),
        ("sparse_map()", 128, 10, lambda scores: own_step("sparse_map", scores)),
        ("sparse_map(budget=64)", 128, 10, lambda scores: own_step("sparse_map", scores, budget=64)),
    ):
        if only not in label:
            continue
        scores = random_scores(bits)
        own, baseline = interleaved([step(scores), own_step("score_function", scores, space="bit_vector")], repeats)
        table.add_row(label, str(bits), f"{own:.2f}", str(limit), f"{baseline:.2f}", f"{own / baseline:.2f}")
    return table


def samplers(repeats: int, only: str) -> Table:
    columns = ("estimator", "draws", "reference", "ms", "reference, ms", "ratio", "unchecked, ms", "ratio")
    table = Table(*columns, title=f"sampling, {CATEGORIES} categories or {BITS} bits")
    for row in ROWS:
        if only not in row.label:
            continue
        scores = random_scores(BITS if row.bits else CATEGORIES)
        steps = [own_step(row.name, scores, **row.options), *(reference_step(row, scores, c) for c in (None, False))]
        own, checked, unchecked = interleaved(steps, repeats)
        ratios = [f"{checked:.3f}", f"{own / checked:.2f}", f"{unchecked:.3f}", f"{own / unchecked:.2f}"]
        table.add_row(row.label, str(row.draws), row.reference, f"{own:.3f}", *ratios)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=300, help="timed calls of each step (default: %(default)s)")
    parser.add_argument("--only", default="", metavar="TEXT", help="only rows whose first column holds this text")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    console = Console(width=140)
    for table in (searches, samplers):
        result = table(arguments.repeats, arguments.only)
        if result.row_count:
            console.print(result)


if __name__ == "__main__":
    main()
