"""How long OpenMP's threads spin while they wait for each other; set before torch is loaded."""

import os
from typing import Final

SPINS: Final = 1000
"""Turns of libgomp's waiting loop, about 30 microseconds. A step has hundreds of shorter waits, and
threads that sleep at once pay for a wake-up in each: 93 ms a step and not 60 with the
default model on two cores, 25 and not 6 with the tiny one. Longer spinning is no faster there, and
takes the cores from whatever else runs on them.
"""


def bound_spinning() -> None:
    """Bound the spinning of the process's threads, unless its environment says otherwise."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))
