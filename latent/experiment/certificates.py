"""The table of certificates: every estimator on the fixed family of problems, for the command line and for the docs."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from estimators import ESTIMATORS, SPACES, Estimator, OptionError, expected_loss
from estimators.certificates.catalogue import CATALOGUE, Entry, verdict
from estimators.certificates.certify import Certificate, certify
from estimators.certificates.problems import FAMILY
from estimators.options import label, nearest
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
        space: the kind of latent.
        verdict: see :func:`estimators.certificates.catalogue.verdict`; with ``bound:`` where the objective is not the
            expected loss.
        passed: whether it is what the estimator declares.
        certificates: one for each problem.
    """

    estimator: str
    space: str
    verdict: str
    passed: bool
    certificates: list[Certificate]

    def summary(self) -> Block:
        """The values of the table's columns."""
        encoder = [certificate.encoder for certificate in self.certificates]
        products = [certificate.encoder.variance * certificate.calls for certificate in self.certificates]
        return {
            "estimator": self.estimator,
            "space": self.space,
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
    others: list[Entry] = [(name, {}) for name in available if name not in ESTIMATORS and name not in parts.CONTINUOUS]
    catalogued = [*CATALOGUE, *others]
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
        given = [(name, with_overrides(Source(), map(parse_override, options)).data)] if options else []
        found += given or [entry for entry in catalogued if entry[0] == name] or [(name, {})]
    return found if chosen else catalogued


def build(name: str, options: Block) -> Estimator:
    """An estimator of this project or of an entry point.

    Raises:
        OptionError: if it has no such option, or a value is of the wrong type or out of range.
    """
    part = parts.estimators()[name]
    model = options_model(part)
    try:
        chosen = model.model_validate(options)
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
    if estimator.space not in SPACES.values():
        raise OptionError("estimator", f"{name} is for a {estimator.space.name} latent; certificates are for discrete ones")
    return estimator


def row(name: str, options: Block, done: Callable[[], None] = lambda: None) -> Row:
    """Certify one estimator on every problem of the family; ``done`` is called after each.

    Raises:
        CertificateError: if it fails altogether; the message says where.
    """
    estimator = build(name, options)
    certificates = []
    for problem in FAMILY:
        try:
            certificates.append(certify(estimator, estimator.space, problem))
        except Exception as error:  # an estimator may come from anywhere, and raise anything
            message = f"{label(name, options)} failed on the problem {problem.name}: {type(error).__name__}: {error}"
            raise CertificateError(message) from error
        done()
    text, passed = verdict(name, options, certificates)
    if passed and estimator.objective is not expected_loss:
        text = f"bound: {text}"  # another objective than that of all others
    return Row(label(name, options), estimator.space.name, text, passed, certificates)
