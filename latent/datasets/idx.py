"""The IDX format of MNIST's files: four bytes of magic number, the sizes as big-endian integers, and the values.

LeCun, Cortes and Burges, http://yann.lecun.com/exdb/mnist/. Only unsigned bytes are read: nothing else is published so.
"""

from __future__ import annotations

import hashlib
import math
import struct

import numpy as np

_UNSIGNED_BYTES = 0x08


def _header(shape: tuple[int, ...]) -> bytes:
    return struct.pack(f">HBB{len(shape)}I", 0, _UNSIGNED_BYTES, len(shape), *shape)


def parse(content: bytes) -> np.ndarray:
    """The uint8 array that an IDX file's bytes hold.

    Raises:
        ValueError: if the bytes are no IDX file of unsigned bytes, are cut off, or go on after the last value.
    """
    if len(content) < 4:
        raise ValueError(f"it is cut off after {len(content):,} bytes")
    zero, kind, dimensions = struct.unpack_from(">HBB", content)
    if zero or kind != _UNSIGNED_BYTES or not dimensions:
        raise ValueError(f"it is no IDX file of unsigned bytes: it starts with {content[:4].hex()}")
    begin = 4 + 4 * dimensions
    if len(content) < begin:
        raise ValueError(f"it is cut off after {len(content):,} bytes")
    shape = struct.unpack_from(f">{dimensions}I", content, 4)
    size = begin + math.prod(shape)
    if len(content) != size:
        verdict = "is cut off" if len(content) < size else "goes on too long"
        raise ValueError(f"it {verdict}: {len(content):,} bytes, {size:,} are needed for {list(shape)}")
    return np.frombuffer(content, dtype=np.uint8, offset=begin).reshape(shape)


def digest(array: np.ndarray) -> str:
    """SHA-256 of the IDX file of a uint8 array, whether it came from one or not."""
    found = hashlib.sha256(_header(array.shape))
    found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()
