"""Seeds of streams of random numbers, each with a name of its own."""

from __future__ import annotations

import hashlib


def derived_seed(*parts: int | str) -> int:
    """A 32-bit seed of a stream of random numbers that ``parts`` name, unrelated to that of any other stream.

    Torch's CPU generator reads no more than 32 bits of a seed: ``seed`` and ``seed + 2**32`` start the same stream.
    """
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "big")
