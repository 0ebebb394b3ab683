"""What the registered estimators are certified with, and the verdict on each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

from estimators.base import Estimator, misfit
from estimators.certificates.certify import Certificate
from estimators.certificates.problems import LATENTS, Problem, family
from estimators.certificates.quality import POWER, Z_LIMIT
from estimators.options import label
from estimators.registry import REGISTRY


class Entry(NamedTuple):
    """An estimator with its options, on a kind of latent."""

    name: str
    options: Mapping[str, Any]
    latent: str

    @property
    def label(self) -> str:
        """``name key=value ...``."""
        return label(self.name, self.options)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What it is certified on: every problem of one categorical, and of other latents those that tell the most.

        Where draws are continuous, a certificate takes as many samples as its test needs.
        """
        if self.latent == "categorical":
            return family(self.latent)
        costly = self.latent == WIDE or (self.name in REGISTRY and REGISTRY[self.name].continuous)
        return family(self.latent, ("neural",) if costly else ("quadratic", "neural"))


WIDE = "wide_categorical"
"""The kind of latent of options that need more than three states."""


def latents_for(estimator: Estimator) -> list[str]:
    """The kinds of latent that an estimator serves."""
    problems = {latent: family(latent)[0] for latent in LATENTS if latent != WIDE}
    return [latent for latent, problem in problems.items() if not misfit(estimator, problem.space(problem.scores))]


@cache
def catalogue() -> tuple[Entry, ...]:
    """Every registered estimator with each of its sets of options, on every latent that it serves."""
    entries = []
    for name, registered in REGISTRY.items():
        for options in registered.certified:
            entries += [Entry(name, options, latent) for latent in latents_for(registered.make(**options))]
        entries += [Entry(name, options, WIDE) for options in registered.certified_wide]
    return tuple(entries)


@cache
def pinned_biases() -> dict[str, dict[str, dict[str, tuple[float, float]]]]:
    """Exact relative biases of encoder and decoder gradients of biased estimators, by label, latent and problem.

    Those of finite draws are enumerated, those of continuous noise integrated. ``python -m tests.estimators.quadrature`` makes
    the file.
    """
    found: dict[str, Any] = json.loads(files("estimators.certificates").joinpath("pinned_biases.json").read_text())
    return found


def verdict(entry: Entry, certificates: Sequence[Certificate]) -> tuple[str, bool]:
    """What the certificates of an estimator say, and whether that is what it declares.

    An unbiased estimator is ``proved`` where all outcomes of its draws were enumerated, or has ``passed`` a calibrated test.
    The bias of a biased one is ``pinned``, or ``measured`` where no exact bias is known. What breaks the contract is broken,
    biased or not.
    """
    faults = sorted({fault for certificate in certificates for fault in certificate.faults})
    if faults:
        return f"BROKEN: {'; '.join(faults)}", False
    broken = [certificate for certificate in certificates if not certificate.is_finite]
    if broken:
        return f"NOT FINITE: {_names(broken)}", False
    if all(certificate.unbiased for certificate in certificates):
        return _verdict_on_unbiased(certificates)
    pins = pinned_biases().get(entry.label, {}).get(entry.latent)
    if pins is None:
        return "measured", True
    wrong = [certificate for certificate in certificates if not _matches(certificate, pins[certificate.problem])]
    return ("pinned", True) if not wrong else (f"NOT AS PINNED: {_names(wrong)}", False)


def _verdict_on_unbiased(certificates: Sequence[Certificate]) -> tuple[str, bool]:
    """Of an estimator that is declared to be unbiased."""
    wrong = [certificate for certificate in certificates if not certificate.is_unbiased]
    weak = [certificate for certificate in wrong if certificate.largest_z < Z_LIMIT and certificate.power < POWER]
    if wrong and len(weak) == len(wrong):
        return f"UNDECIDED, too much variance: {_names(wrong)}", False
    if wrong:
        return f"BIASED: {_names(wrong)}", False
    sampled = any(certificate.method == "sampling" for certificate in certificates)
    return ("passed" if sampled else "proved"), True


def _names(certificates: Sequence[Certificate]) -> str:
    return ", ".join(certificate.problem for certificate in certificates)


def _matches(certificate: Certificate, pins: tuple[float, float]) -> bool:
    qualities = (certificate.encoder, certificate.decoder)
    return all(
        abs(quality.bias - pin) <= 1e-7 + Z_LIMIT * quality.standard_error for quality, pin in zip(qualities, pins, strict=True)
    )
