"""The spin time of OpenMP's waiting threads; set before torch is imported."""

import os
from typing import Final

SPINS: Final = 1000
"""Iterations of libgomp's waiting loop, about 30 microseconds. A step has hundreds of shorter
waits, and threads that sleep at once need a wake-up for each: 93 ms a step instead of 60 with the
default model on two cores, 25 instead of 6 with the tiny one. Longer spinning is no faster, and
takes CPU time from other programs.
"""


def bound_spinning() -> None:
    """Limit the spinning of the process's threads, unless environment variables set it."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))
