"""The options with which the estimators of this project are certified, and the verdict on each.

The sizes suit problems of three states or bits: budgets and samples below three, so that there is something left to chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from estimators.certificates.certify import Certificate
from estimators.certificates.pinned_biases import PINNED
from estimators.certificates.quality import POWER, Z_LIMIT
from estimators.options import label

Entry = tuple[str, dict[str, Any]]

BITS = {"space": "bit_vector"}

CATALOGUE: tuple[Entry, ...] = (
    ("dense", {}),
    ("dense", BITS),
    ("sparsemax", {}),
    ("entmax", {}),
    ("entmax", {"learned": True}),
    ("top_k_sparsemax", {"k": 2}),
    ("top_k_sparsemax", {"k": 3, **BITS}),
    ("bounded_sparse", {"budget": 2}),
    ("sparse_map", {}),
    ("sparse_map", {"budget": 2}),
    ("score_function", {}),
    ("score_function", {"baseline": "moving_average"}),
    ("score_function", {"baseline": "self_critic"}),
    ("score_function", {"baseline": "sampled_self_critic"}),
    ("score_function", {"baseline": "nvil"}),
    ("score_function", {"baseline": "nvil", "normalise_variance": True}),
    ("score_function", {"baseline": "leave_one_out", "samples": 2}),
    ("score_function", {"baseline": "leave_one_out", "samples": 3}),
    ("score_function", BITS),
    ("score_function", {"baseline": "nvil", **BITS}),
    ("score_function", {"baseline": "leave_one_out", "samples": 2, **BITS}),
    ("sum_and_sample", {}),
    ("sum_and_sample", {"baseline": "moving_average"}),
    ("sum_and_sample", {"baseline": "nvil"}),
    ("unordered_set", {"samples": 2}),
    ("unordered_set", {"samples": 2, "baseline": False}),
    ("disarm", {}),
    ("arms", {"samples": 3}),
    ("vimco", {"samples": 2}),
    ("vimco", {"samples": 2, "weights": "importance"}),
    ("vimco", {"samples": 2, **BITS}),
    ("rebar", {}),
    ("relax", {}),
    ("straight_through", {}),
    ("straight_through", BITS),
    ("reinmax", {}),
    ("gumbel_softmax", {}),
    ("gumbel_softmax", {"straight_through": True}),
    ("gumbel_rao", {}),
    ("binary_concrete", {}),
    ("binary_concrete", {"straight_through": True}),
)
"""Names of estimators with options."""


def verdict(name: str, options: dict[str, Any], certificates: Sequence[Certificate]) -> tuple[str, bool]:
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
        wrong = [certificate for certificate in certificates if not certificate.is_unbiased]
        weak = [certificate for certificate in wrong if certificate.largest_z < Z_LIMIT and certificate.power < POWER]
        if wrong and len(weak) == len(wrong):
            return f"UNDECIDED, too much variance: {_names(wrong)}", False
        if wrong:
            return f"BIASED: {_names(wrong)}", False
        sampled = any(certificate.method == "sampling" for certificate in certificates)
        return ("passed" if sampled else "proved"), True
    pins = PINNED.get(label(name, options))
    if pins is None:
        return "measured", True
    wrong = [certificate for certificate in certificates if not _matches(certificate, pins[certificate.problem])]
    return ("pinned", True) if not wrong else (f"NOT AS PINNED: {_names(wrong)}", False)


def _names(certificates: Sequence[Certificate]) -> str:
    return ", ".join(certificate.problem for certificate in certificates)


def _matches(certificate: Certificate, pins: tuple[float, float]) -> bool:
    qualities = (certificate.encoder, certificate.decoder)
    return all(
        abs(quality.bias - pin) <= 1e-7 + Z_LIMIT * quality.standard_error for quality, pin in zip(qualities, pins, strict=True)
    )
