"""The table of certificates: every estimator on the fixed family of problems, for the command line and for the docs."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from estimators import ESTIMATORS, Estimator, OptionError, expected_loss
from estimators.certificates.catalogue import Entry, catalogue, latents_for, verdict
from estimators.certificates.certify import Certificate, certify
from estimators.options import nearest
from latent.experiment import parts
from latent.experiment.options import bound, options_model
from latent.experiment.overrides import parse_override, with_overrides
from latent.experiment.yaml_source import Block, Source

COLUMNS = ("estimator", "unbiased", "encoder\nbias", "decoder\nbias", "vari-\nance", "calls", "var ×\ncalls")


class CertificateError(Exception):
    """An estimator cannot be certified."""


@dataclass(frozen=True)
class Row:
    """One estimator's certificates in short: largest relative biases, and medians over the problems.

    Attributes:
        estimator: name and options.
        latent: the kind of latent.
        verdict: see :func:`estimators.certificates.catalogue.verdict`; with ``bound:`` where the objective is not the
            expected loss.
        passed: whether it is what the estimator declares.
        certificates: one for each problem.
    """

    estimator: str
    latent: str
    verdict: str
    passed: bool
    certificates: list[Certificate]

    def summary(self) -> Block:
        """The values of the table's columns."""
        encoder = [certificate.encoder for certificate in self.certificates]
        products = [certificate.encoder.variance * certificate.calls for certificate in self.certificates]
        return {
            "estimator": self.estimator,
            "latent": self.latent,
            "verdict": self.verdict,
            "encoder_bias": _largest([quality.bias for quality in encoder]),
            "decoder_bias": _largest([certificate.decoder.bias for certificate in self.certificates]),
            "variance": statistics.median(quality.variance for quality in encoder),
            "cosine": statistics.median(quality.cosine for quality in encoder),
            "calls": statistics.mean(certificate.calls for certificate in self.certificates),
            "variance_calls": statistics.median(products),
        }

    def cells(self) -> list[str]:
        """The columns as text."""
        values = self.summary()
        forms: dict[str, Callable[[float], str]] = {
            "encoder_bias": _bias,
            "decoder_bias": _bias,
            "variance": _number,
            "calls": "{:.2f}".format,
            "variance_calls": _number,
        }
        if not self.passed:  # the reason is too long for a cell
            verdict = self.verdict.partition(":")[0].partition(",")[0]
        else:
            verdict = self.verdict if self.certificates[0].unbiased else f"no: {self.verdict}"
        return [self.estimator.replace(" ", "\n  "), verdict, *(form(values[key]) for key, form in forms.items())]

    def as_json(self) -> Block:
        """Everything."""
        found = [dataclasses.asdict(certificate) for certificate in self.certificates]
        whole: Block = finite(self.summary() | {"passed": self.passed, "certificates": found})
        return whole


def _largest(values: list[float]) -> float:
    """The largest, or what is not a number."""
    return next((value for value in values if math.isnan(value)), max(values))


def finite(tree: Any) -> Any:
    """What JSON can hold: None for what is no finite number."""
    if isinstance(tree, dict):
        return {key: finite(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [finite(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree


def _bias(value: float) -> str:
    return "0" if value == 0 else f"{value:.0e}" if value < 1e-3 else f"{value:.3f}"


def _number(value: float) -> str:
    return "0" if value < 1e-9 else f"{value:.2f}"


def entries(words: Sequence[str]) -> list[Entry]:
    """The estimators to certify: ``NAME``, with the catalogue's options, or ``NAME KEY=VALUE ...``; all, where none is named.

    Raises:
        ConfigurationError: if an option cannot be read.
        OptionError: if there is no such estimator.
    """
    available = parts.estimators()
    others = [name for name in available if name not in ESTIMATORS and name not in parts.CONTINUOUS]
    if not words:
        return [*catalogue(), *(entry for name in others for entry in _entries_of_another(name))]
    chosen: list[tuple[str, list[str]]] = []
    for word in words:
        if "=" not in word:
            chosen.append((word, []))
        elif chosen:
            chosen[-1][1].append(word)
        else:
            raise OptionError(word.partition("=")[0], "an option follows the name of its estimator")
    found: list[Entry] = []
    for name, options in chosen:
        if name not in available:
            known = ", ".join(available)
            raise OptionError("estimator", f"there is no {name!r}{nearest(name, available)}; estimators: {known}")
        catalogued = [] if options else [entry for entry in catalogue() if entry.name == name]
        found += catalogued or _entries_of(name, with_overrides(Source(), map(parse_override, options)).data)
    return found


def _entries_of(name: str, options: Block) -> list[Entry]:
    """One for each kind of latent that the estimator serves.

    Raises:
        OptionError: if it cannot be made, or serves none.
    """
    latents = latents_for(build(name, options))
    if not latents:
        raise OptionError("estimator", f"{name} serves no discrete latent; certificates are for those")
    return [Entry(name, options, latent) for latent in latents]


def _entries_of_another(name: str) -> list[Entry]:
    """Those of an estimator of another distribution; where it cannot be made, one that will fail and say why."""
    try:
        return _entries_of(name, {})
    except OptionError:
        return [Entry(name, {}, "categorical")]


def build(name: str, options: Mapping[str, Any]) -> Estimator:
    """An estimator of this project or of an entry point.

    Raises:
        OptionError: if it has no such option, or a value is of the wrong type or out of range.
    """
    part = parts.estimators()[name]
    model = options_model(part)
    try:
        chosen = model.model_validate(dict(options))
    except ValidationError as error:
        problem = error.errors()[0]
        option = ".".join(map(str, problem["loc"]))
        if problem["type"] == "extra_forbidden":
            known = ", ".join(model.model_fields) or "none"
            raise OptionError(option, f"{name} has no such option; its options: {known}") from None
        if problem["type"] == "missing":
            raise OptionError(option, f"{name} needs this option: latent certify {name} {option}=VALUE") from None
        raise OptionError(option, f"{problem['msg']}, got {problem['input']!r}") from None
    try:
        estimator: Estimator = bound(chosen)()
    except OptionError:
        raise
    except Exception as error:  # it may come from anywhere, and raise anything
        raise OptionError("estimator", f"{name} cannot be made: {type(error).__name__}: {error}") from error
    if not isinstance(estimator, Estimator):
        raise OptionError("estimator", f"{name} makes a {type(estimator).__name__}, not an Estimator")
    return estimator


def row(entry: Entry, done: Callable[[], None] = lambda: None) -> Row:
    """Certify one estimator on every problem of its latent; ``done`` is called after each.

    Raises:
        CertificateError: if it fails altogether; the message says where.
    """
    estimator = build(entry.name, entry.options)
    certificates = []
    for problem in entry.problems:
        try:
            certificates.append(certify(estimator, problem))
        except Exception as error:  # an estimator may come from anywhere, and raise anything
            where = f"{entry.label} failed on the problem {problem.name} of a {entry.latent} latent"
            raise CertificateError(f"{where}: {type(error).__name__}: {error}") from error
        done()
    text, passed = verdict(entry, certificates)
    if passed and estimator.objective is not expected_loss:
        text = f"bound: {text}"  # another objective than that of all others
    return Row(entry.label, entry.latent, text, passed, certificates)
