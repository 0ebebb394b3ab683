"""Checkpoints: all that a run needs to go on as if it had never stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from latent.experiment.run_directory import RunError
from latent.files import write_atomically

FORMAT = 2


def save(path: Path, identity: str, state: dict[str, Any]) -> None:
    """Write ``state``, a tree of tensors and plain values, for the run that ``identity`` names."""
    content = {"format": FORMAT, "identity": identity, "state": state}
    write_atomically(path, lambda stream: torch.save(content, stream))


def load(path: Path, identity: str) -> dict[str, Any]:
    """Read what :func:`save` wrote; nothing but tensors and plain values is unpickled.

    Raises:
        RunError: if the file is damaged, or belongs to another configuration, seed or data set.
    """
    anew = "delete it, or give --force, to run the experiment anew"
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        form, owner, state = content["format"], content["identity"], content["state"]
    except Exception as error:  # a damaged archive can raise nearly anything
        reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise RunError(f"the checkpoint {path} cannot be read: {reason}; {anew}") from error
    if form != FORMAT:
        raise RunError(f"the checkpoint {path} has format {form}, this version reads {FORMAT}; {anew}")
    if owner != identity:
        raise RunError(f"the checkpoint {path} belongs to the run {owner}, not to {identity}; {anew}")
    result: dict[str, Any] = state
    return result
