"""A check of the scale of float inputs before training."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from omega21.data.sources.files import DataSet
from omega21.language import _
from omega21.language.figures import number

LARGEST_SPREAD: Final = 10.0
SMALLEST_SPREAD: Final = 0.01
_ROWS: Final = 1024
_BYTES: Final = 64 * 2**20


def scale_warnings(data: DataSet) -> list[str]:
    """Return a warning for each float input of a data set whose features are not scaled.

    The median standard deviation of a feature should lie between 0.01 and 10, and the median of
    the means within ten of that. At most 1,024 rows are read, evenly spaced. Integers, such as
    the pixels of an image or the tokens of a text, are not features of this kind. Raises
    InvalidSamples, InvalidDataFile as reading them does.
    """
    floats = [name for name, spec in data.schema.inputs.items() if spec.numpy_type.kind == "f"]
    if not floats:
        return []
    most = max(2, min(len(data), _ROWS, _BYTES // data.schema.sample_bytes))
    rows = np.unique(np.linspace(0, len(data) - 1, most).astype(np.int64))
    some = data.read(rows)
    found = (_warning(data, name, some[name]) for name in floats)
    return [text for text in found if text is not None]


def _warning(data: DataSet, name: str, values: NDArray[np.generic]) -> str | None:
    with np.errstate(invalid="ignore"):  # a task of the user's own may have NaN among its numbers
        features = values.astype(np.float64).reshape(len(values), -1)
        spreads = features.std(axis=0)
        center = float(np.median(features.mean(axis=0)))
    if len(values) < 2 or not spreads.any():
        return None
    spread = float(np.median(spreads[spreads > 0])) if (spreads > 0).any() else float("nan")
    is_fit = SMALLEST_SPREAD <= spread <= LARGEST_SPREAD and abs(center) <= 10 * max(spread, 1)
    if is_fit or not np.isfinite([spread, center]).all():
        return None
    return _(
        "the features {name} of {file} are not scaled: a usual one lies at {center} and varies by "
        "{spread}, and a model learns best from values of about -1 to 1. Subtract each feature's "
        "mean and divide by its standard deviation, or scores may suffer"
    ).format(name=name, file=data.name, center=number(center, 4), spread=number(spread, 4))
