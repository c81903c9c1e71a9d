"""The limit on open files of this process, and the share of it for shards."""

import os
from typing import Final

MOST_SHARDS: Final = 4096
"""A million samples. Opening a file again takes several times as long as reading a sample of it."""

_LEAST_SHARDS: Final = 64
_BESIDE: Final = 1024  # connections and databases, with a margin


def raise_limit(wanted: int) -> int:
    """Raise the limit on open files towards `wanted`; return the resulting limit."""
    if os.name != "posix":
        return wanted
    import resource  # noqa: PLC0415 - POSIX alone has it

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return soft


def for_shards() -> int:
    """Return how many shards may stay open: what remains of the limit."""
    allowed = raise_limit(MOST_SHARDS + _BESIDE)
    return max(_LEAST_SHARDS, min(MOST_SHARDS, allowed - _BESIDE))
