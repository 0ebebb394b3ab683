"""A disk without room."""

import errno
import os
from contextlib import contextmanager

import pytest


@contextmanager
def full_disk(after=0):
    """From the ``after``-th flush of a file on, there is no space left on the device."""
    flush, flushes = os.fsync, 0

    def full(descriptor):
        nonlocal flushes
        flushes += 1
        if flushes > after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        flush(descriptor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", full)
        yield
