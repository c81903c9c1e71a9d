"""A check of the features' scale before training."""

from typing import Final

import numpy as np

from omega21.data.sources.files import DataFile
from omega21.language import _
from omega21.language.figures import number

LARGEST_SPREAD: Final = 10.0
SMALLEST_SPREAD: Final = 0.01
_ROWS: Final = 1024


def scale_warning(file: DataFile) -> str | None:
    """Return a warning about the scale of a file's features, None if there is none.

    The median standard deviation of a feature should lie between 0.01 and 10, and the median of
    the means within ten of that. At most 1,024 rows are read, evenly spaced. Raises
    InvalidSamples, InvalidDataFile as reading them does.
    """
    rows = np.unique(np.linspace(0, len(file) - 1, min(len(file), _ROWS)).astype(np.int64))
    x = file.read(rows).x.astype(np.float64)
    spreads = x.std(axis=0)
    if len(rows) < 2 or not spreads.any():
        return None
    spread = float(np.median(spreads[spreads > 0]))
    center = float(np.median(x.mean(axis=0)))
    is_fit = SMALLEST_SPREAD <= spread <= LARGEST_SPREAD and abs(center) <= 10 * max(spread, 1)
    if is_fit:
        return None
    return _(
        "the features of {file} are not scaled: a usual one lies at {center} and varies by "
        "{spread}, and this model learns from values of about -1 to 1. Subtract each feature's "
        "mean and divide by its standard deviation, or scores may suffer"
    ).format(file=file.path.name, center=number(center, 4), spread=number(spread, 4))
