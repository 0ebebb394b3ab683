"""What the models of images measure, for each task to put together."""

from __future__ import annotations

from latent.words import Metric

LOSS = Metric("loss", "loss", better="lower", shown=())
ELBO = Metric("elbo", "ELBO", "nats", "higher", ("summary", "table", "page", "curve", "workspace", "bars"))
BITS_PER_DIM = Metric("bits_per_dim", "bits per dimension", "", "lower", ("summary", "page", "ends", "bars"), decimals=3)
RATE = Metric("rate", "rate", "nats", shown=("summary", "page", "workspace"))
DISTORTION = Metric(
    "distortion", "distortion", "nats", "lower", ("summary", "page", "ends", "workspace"), against="rate", level="elbo"
)
ARGMAX_DISTORTION = Metric("argmax_distortion", "distortion of the most likely state", "nats", "lower")
LOG_LIKELIHOOD = Metric("log_likelihood", "log-likelihood", "nats", "higher")
STANDARD_ERRORS = tuple(
    Metric(f"{metric.name}_standard_error", f"{metric.name} standard error".replace("_", " "), shown=())
    for metric in (LOG_LIKELIHOOD, BITS_PER_DIM)
)
OF_EVIDENCE = (LOG_LIKELIHOOD, *STANDARD_ERRORS)
