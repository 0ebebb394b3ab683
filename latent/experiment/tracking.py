"""Weights & Biases as a sink of metrics: it may fail, never ask, never block for long, and never hurt a run."""

from __future__ import annotations

import contextlib
import logging
import netrc
import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from estimators.options import label
from latent.experiment import parts
from latent.experiment.options import complete_default, options_model
from latent.experiment.run_directory import Row, RunDirectory, Summary
from latent.experiment.yaml_source import Block, flatten

if TYPE_CHECKING:
    from wandb import Run, Settings

log = logging.getLogger(__name__)

X_AXIS = "total_decoder_calls"
SECONDS: Block = {"login_timeout": 5, "init_timeout": 15, "finish_timeout": 30}
PUBLIC_HOST = "api.wandb.ai"
"""Where W&B's own server has always been; a key for it holds for whatever address a version of the library has by default."""
NO_KEY = "Weights & Biases has no key to go online with"


class TrackingError(Exception):
    """Weights & Biases failed; the message says how."""


def connect() -> tuple[Settings, str]:
    """W&B's settings as all of this project's runs have them, and the address of the server that it would talk to."""
    import wandb

    settings = wandb.Settings(silent=True, console="off", disable_git=True, **SECONDS)
    return settings, str(wandb.setup(settings).settings.base_url)


def has_key(base_url: str) -> bool:
    """Whether W&B can log in by itself."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    import wandb

    hosts = [urlsplit(base_url).netloc] + [PUBLIC_HOST] * (base_url == wandb.Settings().base_url)
    try:
        keys = netrc.netrc(os.environ.get("NETRC"))
        return any(keys.authenticators(host) is not None for host in hosts)
    except (OSError, netrc.NetrcParseError):
        return False


def run_id(identity: str) -> str:
    """The W&B id of the run ``<experiment>/<run>``."""
    return identity.replace("/", ".")


def estimator_label(options: Block) -> str:
    """An estimator's name with those options that are not at their defaults: ``score_function baseline=self_critic``.

    It tells estimators apart in W&B, which cannot group runs by keys with dots in them, such as ``estimator.name``.
    """
    name, part = options["name"], parts.estimators().get(options["name"])
    fields = options_model(part).model_fields if part else {}
    defaults = flatten({key: complete_default(field) for key, field in fields.items()})
    own = flatten({key: value for key, value in options.items() if key in fields})
    return label(name, {key: value for key, value in own.items() if key not in defaults or value != defaults[key]})


class WandbSink:
    """A W&B run that follows a run directory.

    Seeds of one configuration share a group, experiments a job type; task, estimator and data set are tags; the run's identity
    is its W&B id. Every chart has ``total_decoder_calls`` as its x axis. The mode is the configuration's, else ``WANDB_MODE``,
    else online where there is a key, else offline. Any failure is a warning, after which nothing is sent.

    Args:
        configuration: the run's complete configuration.
        directory: the run's directory, which holds its pictures.
        identity: ``<experiment>/<run>``.
        rows: what the run has logged already; they are sent first, with the pictures of their steps, but for those that a
            resumed online run has. W&B does not go on with offline files.
        tracking: what to go by in the place of the configuration's block of that name.
        files: where W&B puts its files, if not in ``directory``.
        replay: the run is over, and all of it is sent: W&B's run starts anew, and what fails raises TrackingError.

    Attributes:
        run: W&B's run, None where there is none.
        mode: the one that it has.
    """

    def __init__(
        self,
        configuration: Block,
        directory: Path,
        identity: str,
        rows: list[Row],
        *,
        tracking: Block | None = None,
        files: Path | None = None,
        replay: bool = False,
    ) -> None:
        self.run: Run | None = None
        self.first_step = 0
        self.replay = replay
        tracking = tracking or configuration["tracking"]
        self.mode: str = tracking["wandb"] or os.environ.get("WANDB_MODE") or ""
        if self.mode == "disabled":
            return
        try:
            self._start({**_identifiers(configuration, identity, tracking), "dir": str(files or directory)}, bool(rows))
        except Exception as error:
            self._fail(error)
        pictures = RunDirectory(directory).pictures_by_step() if rows else {}
        for row in rows:
            self.log(row)
            self.show(pictures.get(int(row["step"]), {}), int(row["step"]))

    def _start(self, arguments: Block, goes_on: bool) -> None:
        import wandb

        settings, base_url = connect()
        if not has_key(base_url):
            if self.mode == "online":  # W&B would ask for one
                log.warning("%s; this run is recorded offline", NO_KEY)
            self.mode = "offline"
        self.mode = self.mode or "online"
        try:
            # without resume, a run of the same id on the server is replaced: this one starts anew
            resume = "allow" if goes_on and self.mode == "online" and not self.replay else None
            how: Block = {"mode": self.mode, "resume": resume}
            self.run = wandb.init(settings=settings, **arguments, **how)
        except Exception as error:
            if self.mode != "online":
                raise
            log.warning("Weights & Biases cannot be reached (%s); this run is recorded offline", short(error))
            wandb.teardown()  # the service takes the id of the failed run to be in use
            self.mode = "offline"
            self.run = wandb.init(mode="offline", settings=settings, **arguments)
        self.run.define_metric(X_AXIS)
        self.run.define_metric("*", step_metric=X_AXIS)
        self.first_step = int(self.run.step)  # what an online run goes on from; asking later would wait for an answer

    def _fail(self, error: Exception) -> None:
        self.run = None
        if self.replay:
            with contextlib.suppress(Exception):
                import wandb

                wandb.teardown()  # else W&B would hand the failed run to whoever asks for the next
            raise TrackingError(f"Weights & Biases failed: {short(error)}") from error
        log.warning("Weights & Biases failed (%s); training goes on without it", short(error))

    @property
    def folder(self) -> Path:
        """Where W&B has put the files of the run."""
        if self.run is None:
            raise TrackingError("Weights & Biases has no run here")
        return Path(self.run.dir).parent

    def log(self, row: Row) -> None:
        """Send one row of metrics; rows that a resumed online run has already are passed over."""
        if self.run is None or row["step"] < self.first_step:
            return
        try:
            self.run.log(row, step=int(row["step"]))
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

    def close(self, summary: Summary, exit_code: int) -> None:
        """Write the summary as flat numbers, which a ``define_metric`` summary would not be, and end the run."""
        if self.run is None:
            return
        try:
            self.run.summary.update(summary)
            self.run.finish(exit_code=exit_code)
        except Exception as error:
            self._fail(error)


def _identifiers(configuration: Block, identity: str, tracking: Block) -> Block:
    """What W&B finds a run by, and what it compares runs by."""
    experiment, _, name = identity.partition("/")
    parts_of_run = [configuration["task"], *(configuration[key]["name"] for key in ("estimator", "data"))]
    return {
        "project": tracking["project"],
        "entity": tracking["entity"],
        "id": run_id(identity),
        "name": name,
        "group": name.replace(f"-s{configuration['seed']}-", "-"),
        "job_type": experiment,
        "tags": [*parts_of_run, *tracking["tags"]],
        "config": {**flatten(configuration), "estimator_label": estimator_label(configuration["estimator"])},
    }


def short(error: Exception) -> str:
    """The first line of an error's message, cut where it is long."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
