"""Checkpoints: all that a run needs to go on as if it had never stopped."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch

from latent.experiment.run_directory import ANEW, Damaged, RunDirectory, RunError
from latent.files import write_atomically

FORMAT = 2

State = dict[str, Any]
"""A tree of tensors and plain values."""


def save(path: Path, identity: str, state: State) -> None:
    """Write ``state``, a tree of tensors and plain values, for the run that ``identity`` names."""
    content = {"format": FORMAT, "identity": identity, "state": state}
    write_atomically(path, lambda stream: torch.save(content, stream))


def load(path: Path, identity: str) -> State:
    """Read what :func:`save` wrote; nothing but tensors and plain values is unpickled.

    Raises:
        Damaged: if the file is, or belongs to another configuration, seed or data set.
        RunError: if it cannot be read.
    """
    try:
        stored = path.read_bytes()
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        content = torch.load(io.BytesIO(stored), map_location="cpu", weights_only=True)
        form, owner, state = content["format"], content["identity"], content["state"]
    except Exception as error:  # a damaged archive can raise nearly anything
        reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise Damaged(f"the checkpoint {path} cannot be read: {reason}; {ANEW}") from error
    if form != FORMAT:
        raise Damaged(f"the checkpoint {path} has format {form}, this version reads {FORMAT}; {ANEW}")
    if owner != identity:
        raise Damaged(f"the checkpoint {path} belongs to the run {owner}, not to {identity}; {ANEW}")
    result: State = state
    return result


def check(files: RunDirectory, identity: str) -> None:
    """Look whether a run can be read where it is finished, and can go on where it is not.

    Raises:
        Damaged: if it cannot, and must be run anew.
        RunError: if a file cannot be read.
    """
    goes_on = files.summary() is None and files.checkpoint.exists()
    files.rows(load(files.checkpoint, identity)["metrics_size"] if goes_on else 0)
