"""The exact expected gradients of relaxing estimators, integrated over their noise: what their biases are pinned to.

python -m tests.estimators.quadrature    # writes estimators/certificates/pinned_biases.json, in a few minutes
"""

import itertools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

import estimators
from estimators.certificates import catalogue as catalogued
from estimators.certificates.catalogue import WIDE, catalogue
from estimators.certificates.certify import _Case, certify
from estimators.certificates.problems import LOSSES, Problem, family
from estimators.registry import REGISTRY

F64 = torch.float64
PARTS = 200_000
"""Nodes of a joint rule that are made at a time."""


def half_line(count=120, low=-3.6, high=4.2):
    """Nodes and weights of an integral from 0 to infinity of what decays exponentially, by a double-exponential rule."""
    t = np.linspace(low, high, count)
    x = np.exp(t - np.exp(-t))
    return x, (t[1] - t[0]) * x * (1 + np.exp(-t))


def noise_of_three(scores, rule=None):
    """Perturbed scores ``[N, 3]``, up to a constant, and the weights of their distribution: region by region of the argmax."""
    x, w = rule or half_line()
    for top in range(3):
        below = [j for j in range(3) if j != top]
        points = torch.from_numpy(np.array(list(itertools.product(x, x))))
        weights = torch.from_numpy(np.array([a * b for a, b in itertools.product(w, w)]))
        z = torch.zeros(len(points), 3, dtype=F64)
        z[:, below] = -points
        # The density of differences of Gumbel variables: 2 prod e^y / (1 + sum e^y)^3.
        y = points - (scores[top] - scores[below])
        log_density = np.log(2) + y.sum(1) - 3 * torch.logaddexp(torch.zeros_like(y[:, 0]), y.logsumexp(1))
        yield z, weights * log_density.exp()


def noise_of_two_variables(scores, negligible=1e-12):
    """Perturbed scores ``[N, 6]`` of two variables of three states, and weights, without the pairs of nodes that weigh least.

    The weights of a region add up to its probability, which is known.
    """
    variables = []
    for each in scores.view(2, 3):
        regions = list(noise_of_three(each, half_line(30, -2.6, 3.2)))
        mass = each.softmax(0)
        z = torch.cat([nodes for nodes, _ in regions])
        w = torch.cat([weights * mass[top] / weights.sum() for top, (_, weights) in enumerate(regions)])
        order = w.argsort(descending=True)
        variables.append((z[order], w[order]))
    (first, left), (second, right) = variables
    partners = torch.searchsorted(-right, -negligible / left)  # of each node of the first, those of the second that matter
    chunk = max(1, PARTS // len(right))
    for rows in torch.arange(len(left)).split(chunk):
        row = rows.repeat_interleave(partners[rows])
        place = torch.arange(len(row)) - (partners[rows].cumsum(0) - partners[rows]).repeat_interleave(partners[rows])
        if len(row):
            yield torch.cat([first[row], second[place]], 1), left[row] * right[place]


def noise_of_bits(scores, count=20):
    """Noisy scores of three bits and the weights of their distribution; no piece crosses the point where a bit flips."""
    node, weight = np.polynomial.legendre.leggauss(count)
    nodes, weights = [], []
    for s in scores.tolist():
        flip = 1 / (1 + np.exp(s))
        pieces = [(0, flip), (flip, 1)]
        u = np.concatenate([(b - a) / 2 * node + (a + b) / 2 for a, b in pieces])
        nodes.append(s + np.log(u) - np.log1p(-u))
        weights.append(np.concatenate([(b - a) / 2 * weight for a, b in pieces]))
    z = torch.cartesian_prod(*[torch.from_numpy(n) for n in nodes])
    w = torch.cartesian_prod(*[torch.from_numpy(n) for n in weights]).prod(1)
    yield z, w


def softened(z):
    """Relaxed and hard one-hot vectors of variables of three states, and the product of a slope with the Jacobian."""
    split = z.view(len(z), -1, 3)
    y = split.softmax(2)
    hard = torch.nn.functional.one_hot(split.argmax(2), 3).to(F64).flatten(1)

    def pulled(slope):
        each = slope.view_as(y)
        return (y * (each - (y * each).sum(2, keepdim=True))).flatten(1)

    return y.flatten(1), hard, pulled


def softened_bits(z):
    """The same of bits."""
    y = z.sigmoid()
    return y, (z > 0).to(F64), lambda slope: y * (1 - y) * slope


class Rule(NamedTuple):
    """How the noise of a latent is integrated.

    Attributes:
        noise: from the scores of an example to noisy scores and weights, in parts.
        soften: from noisy scores to relaxed and hard vectors.
        accuracy: of a mass of one, relative; a bias below it counts as none.
        chosen: the problems that a test integrates again.
    """

    noise: Callable[[Tensor], Iterator[tuple[Tensor, Tensor]]]
    soften: Callable[[Tensor], tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]]
    accuracy: float
    chosen: Callable[[list[Problem]], list[Problem]]


QUADRATURE = {
    "categorical": Rule(noise_of_three, softened, 1e-9, lambda problems: problems[3::4]),
    "bit_vector": Rule(noise_of_bits, softened_bits, 1e-9, lambda problems: problems[3::4]),
    "categoricals": Rule(noise_of_two_variables, softened, 1e-5, lambda problems: problems[1:2]),
}


def expected_gradient(problem, straight_through):
    """``[2, V + P]``: gradients of the scores and of the decoder's parameters."""
    rows, rule = [], QUADRATURE[problem.latent]
    for scores, parameters in zip(problem.scores, problem.parameters, strict=True):
        encoder, decoder, mass = 0, 0, 0
        for z, weights in rule.noise(scores):
            soft, hard, pulled = rule.soften(z)
            read = (hard if straight_through else soft).requires_grad_()
            own = parameters.expand(len(z), -1).clone().requires_grad_()
            losses = LOSSES[problem.loss][0](read, own)
            slope, slope_decoder = torch.autograd.grad(losses.sum(), [read, own])
            encoder = encoder + weights @ pulled(slope)
            decoder = decoder + weights @ slope_decoder
            mass += float(weights.sum())
        assert abs(mass - 1) < rule.accuracy, mass
        rows.append(torch.cat([encoder, decoder]))
    return torch.stack(rows).detach()


def relative_biases(entry, problem):
    """``(encoder, decoder)``."""
    estimator = estimators.build(entry.name, **entry.options)
    if not REGISTRY[entry.name].continuous:
        certificate = certify(estimator, problem)
        return certificate.encoder.bias, certificate.decoder.bias
    case = _Case(estimator, problem)
    # The mean over the noise given the sample is the mean over all noise.
    straight_through = entry.name == "gumbel_rao" or entry.options.get("straight_through", False)
    found = expected_gradient(problem, straight_through)
    pairs = zip(case.parts(found), case.parts(case.exact.detach()), strict=True)
    biases = [float((mean - exact).norm() / exact.norm()) for mean, exact in pairs]
    return tuple(0.0 if bias < QUADRATURE[problem.latent].accuracy else bias for bias in biases)


def pinned(entry):
    """Biases by problem: of the whole family, but where a joint rule is costly of those that are certified."""
    joint = REGISTRY[entry.name].continuous and entry.latent == "categoricals"
    biases = {}
    for problem in entry.problems if joint else family(entry.latent):
        found = (0.0 if bias < 1e-9 else float(f"{bias:.9g}") for bias in relative_biases(entry, problem))
        biases[problem.name] = [int(bias) if bias == 0 else bias for bias in found]
    return biases


def main():
    torch.set_num_threads(1)
    found: dict = {}
    for entry in catalogue():
        # The bias of a normalised signal depends on the losses of the past: it is tested, not pinned.
        biased = not estimators.build(entry.name, **entry.options).unbiased
        if biased and entry.latent != WIDE and not entry.options.get("normalise_variance"):
            found.setdefault(entry.label, {})[entry.latent] = pinned(entry)
    text = re.sub(r"\[\s+(\S+),\s+(\S+)\s+\]", r"[\1, \2]", json.dumps(found, indent=1))
    Path(catalogued.__file__).with_name("pinned_biases.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
