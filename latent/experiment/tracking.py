"""Weights & Biases as a sink of metrics: it may fail, never ask, never block for long, and never hurt a run."""

from __future__ import annotations

import logging
import netrc
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from latent.experiment.yaml_source import flatten

log = logging.getLogger(__name__)

X_AXIS = "total_decoder_calls"
SECONDS: dict[str, Any] = {"login_timeout": 5, "init_timeout": 15, "finish_timeout": 30}


def _has_key(base_url: str) -> bool:
    """Whether W&B can log in by itself."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    try:
        host = urlsplit(base_url).netloc
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


class WandbSink:
    """A W&B run that follows a run directory.

    Seeds of one estimator share a group, experiments a job type; task, estimator and data set are tags; the run's identity is
    its W&B id. Every chart has ``total_decoder_calls`` as its x axis. The mode is the configuration's, else ``WANDB_MODE``,
    else online where there is a key, else offline. Any failure is a warning, after which nothing is sent.

    Args:
        configuration: the run's complete configuration.
        directory: where W&B puts its files.
        identity: ``<experiment>/<run>``.
        rows: what a resumed run has logged already; W&B does not go on with offline files, so they are sent again.
    """

    def __init__(self, configuration: dict[str, Any], directory: Path, identity: str, rows: list[dict[str, Any]]) -> None:
        self.run: Any = None
        self.first_step = 0
        tracking = configuration["tracking"]
        mode: Any = tracking["wandb"] or os.environ.get("WANDB_MODE")
        if mode == "disabled":
            return
        try:
            import wandb

            settings = wandb.Settings(silent=True, console="off", disable_git=True, **SECONDS)
            wandb.setup(settings)
            has_key = _has_key(settings.base_url)
            if mode == "online" and not has_key:  # W&B would ask for one
                log.warning("Weights & Biases has no key to go online with; this run is recorded offline")
            mode = (mode or "online") if has_key else "offline"
            experiment, _, name = identity.partition("/")
            seed = f"-s{configuration['seed']}-"
            arguments: dict[str, Any] = {
                "project": tracking["project"],
                "entity": tracking["entity"],
                "dir": str(directory),
                "id": identity.replace("/", "."),
                "name": name,
                "group": name.replace(seed, "-"),
                "job_type": experiment,
                "tags": [
                    configuration["task"],
                    *(configuration[key]["name"] for key in ("estimator", "data")),
                    *tracking["tags"],
                ],
                "config": flatten(configuration),
                "settings": settings,
            }
            try:
                # without resume, a run of the same id on the server is replaced: this one starts anew
                self.run = wandb.init(mode=mode, resume="allow" if rows and mode == "online" else None, **arguments)
            except Exception as error:
                if mode != "online":
                    raise
                log.warning("Weights & Biases cannot be reached (%s); this run is recorded offline", _short(error))
                wandb.teardown()  # the service takes the id of the failed run to be in use
                self.run = wandb.init(mode="offline", **arguments)
            self.run.define_metric(X_AXIS)
            self.run.define_metric("*", step_metric=X_AXIS)
            self.first_step = int(self.run.step)  # what an online run goes on from; asking later would wait for an answer
        except Exception as error:
            self._fail(error)
        for row in rows:
            self.log(row)

    def _fail(self, error: Exception) -> None:
        log.warning("Weights & Biases failed (%s); training goes on without it", _short(error))
        self.run = None

    def log(self, row: dict[str, Any]) -> None:
        """Send one row of metrics; rows that a resumed online run has already are passed over."""
        if self.run is None or row["step"] < self.first_step:
            return
        try:
            self.run.log(row, step=row["step"])
        except Exception as error:
            self._fail(error)

    def show(self, pictures: dict[str, Path], step: int) -> None:
        """Send pictures, by name, from their files."""
        if self.run is None or not pictures or step < self.first_step:
            return
        try:
            import wandb

            self.run.log({f"pictures/{name}": wandb.Image(str(path)) for name, path in pictures.items()}, step=step)
        except Exception as error:
            self._fail(error)

    def close(self, summary: dict[str, Any], exit_code: int) -> None:
        """Write the summary as flat numbers, which a ``define_metric`` summary would not be, and end the run."""
        if self.run is None:
            return
        try:
            self.run.summary.update(summary)
            self.run.finish(exit_code=exit_code)
        except Exception as error:
            self._fail(error)


def _short(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
