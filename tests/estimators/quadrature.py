"""The exact expected gradients of relaxing estimators, integrated over their noise: what their biases are pinned to.

python -m tests.estimators.quadrature    # writes estimators/certificates/pinned_biases.py
"""

import itertools
from pathlib import Path

import numpy as np
import torch

import estimators
from estimators.certificates import pinned_biases
from estimators.certificates.catalogue import CATALOGUE
from estimators.certificates.certify import _Case, certify
from estimators.certificates.problems import FAMILY, LOSSES
from estimators.options import label

F64 = torch.float64


def half_line(count=120):
    """Nodes and weights of an integral from 0 to infinity of what decays exponentially, by a double-exponential rule."""
    t = np.linspace(-3.6, 4.2, count)
    x = np.exp(t - np.exp(-t))
    return x, (t[1] - t[0]) * x * (1 + np.exp(-t))


def noise_of_three(scores):
    """Perturbed scores ``[N, 3]``, up to a constant, and the weights of their distribution: region by region of the argmax."""
    x, w = half_line()
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


def soften(z, bits):
    """The relaxed value at temperature one, its Jacobian in the scores ``[N, 3, 3]``, and the hard value."""
    if bits:
        y = z.sigmoid()
        return y, torch.diag_embed(y * (1 - y)), (z > 0).to(F64)
    y = z.softmax(1)
    return y, torch.diag_embed(y) - y.unsqueeze(1) * y.unsqueeze(2), torch.nn.functional.one_hot(z.argmax(1), 3).to(F64)


def expected_gradient(problem, bits, straight_through):
    """``[2, V + P]``: gradients of the scores and of the decoder's parameters."""
    rows = []
    for scores, parameters in zip(problem.scores, problem.parameters, strict=True):
        encoder, decoder, mass = 0, 0, 0
        for z, weights in (noise_of_bits if bits else noise_of_three)(scores):
            soft, jacobian, hard = soften(z, bits)
            read = (hard if straight_through else soft).requires_grad_()
            own = parameters.expand(len(z), -1).clone().requires_grad_()
            losses = LOSSES[problem.loss][0](read, own)
            slope, slope_decoder = torch.autograd.grad(losses.sum(), [read, own])
            encoder = encoder + weights @ (jacobian @ slope.unsqueeze(2))[..., 0]
            decoder = decoder + weights @ slope_decoder
            mass += float(weights.sum())
        assert abs(mass - 1) < 1e-9
        rows.append(torch.cat([encoder, decoder]))
    return torch.stack(rows)


def relative_biases(name, options, problem):
    """``(encoder, decoder)``."""
    estimator = estimators.build(name, **options)
    if name not in ("gumbel_softmax", "gumbel_rao", "binary_concrete"):  # finite draws
        certificate = certify(estimator, estimator.space, problem)
        return certificate.encoder.bias, certificate.decoder.bias
    case = _Case(estimator, problem)
    straight_through = name == "gumbel_rao" or options.get("straight_through", False)
    found = expected_gradient(problem, name == "binary_concrete", straight_through)
    pairs = zip(case.parts(found), case.parts(case.exact), strict=True)
    return tuple(float((mean - exact).norm() / exact.norm()) for mean, exact in pairs)


HEAD = '''"""Exact relative biases of the biased estimators, of encoder and decoder gradients, on each problem of the family.

Those of finite draws are enumerated, those of continuous noise integrated. Made by ``python -m tests.estimators.quadrature``.
"""

PINNED: dict[str, dict[str, tuple[float, float]]] = {
'''


def main():
    lines = []
    for name, options in CATALOGUE:
        # The bias of a normalised signal depends on the losses of the past: it is tested, not pinned.
        if not estimators.build(name, **options).unbiased and not options.get("normalise_variance"):
            lines.append(f'    "{label(name, options)}": {{')
            for problem in FAMILY:
                encoder, decoder = (0.0 if bias < 1e-9 else bias for bias in relative_biases(name, options, problem))
                lines.append(f'        "{problem.name}": ({encoder:.9g}, {decoder:.9g}),')
            lines.append("    },")
    Path(pinned_biases.__file__).write_text(HEAD + "\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
