"""Metrics and vectors: the named results that a task gives besides its loss.

Their names come from the task, which may be a user's own source.
"""

import math
from typing import Annotated, Final

from pydantic import Field

METRIC_NAME_PATTERN: Final = r"^[A-Za-z_][A-Za-z0-9_.-]{0,63}$"
LOSS: Final = "loss"
"""Reserved: every task has a loss, which is not a metric."""

MAX_METRICS: Final = 32
"""Maximum number of metrics of a task, and of its vectors."""

MAX_VECTOR_VALUES: Final = 4096
"""Maximum number of values in all vectors of a step."""

MetricName = Annotated[str, Field(pattern=METRIC_NAME_PATTERN)]

Finite = Annotated[float, Field(allow_inf_nan=False)]

MetricMap = Annotated[dict[MetricName, Finite | None], Field(max_length=2 * MAX_METRICS)]
"""Means by name; None where a mean is not finite.

Twice as many as a task has: the client adds those of the scores to an evaluation.
"""

VectorMap = Annotated[dict[MetricName, list[Finite]], Field(max_length=MAX_METRICS)]
"""Means of vectors by name."""


def finite_or_none(value: float) -> float | None:
    """Return a value as it is stored and sent: None where it is not finite."""
    return value if math.isfinite(value) else None
