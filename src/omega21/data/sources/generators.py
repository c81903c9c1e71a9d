"""The three kinds of synthetic samples: `simple`, `temporal` and `neuronal`.

Sample i is a pure function of (kind, seed, i) and the share of anomalies, so that any part of a
data set can be generated anywhere, in any order, with the same bits:

- its random words are block i of a counter-based generator (Philox 4x64-10, Salmon et al., 2011,
  https://doi.org/10.1145/2063384.2063405), read raw: numpy keeps a bit generator's stream
  forever, but not the output of `numpy.random.Generator`;
- every value comes from IEEE additions and multiplications in a fixed order, never from a sum or
  a sine whose last bit depends on the processor's vector unit. Equal samples then make equal
  shards on every machine, and are not sent twice.

Memory use is the result plus a few hundred kilobytes: rows are generated in groups that fit the
cache.
"""

import hashlib
import itertools
import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import lru_cache
from typing import Final, NamedTuple, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from omega21.data.samples import Samples
from omega21.language import _
from omega21.protocol.errors import InvalidRequest
from omega21.protocol.plan import Kind
from omega21.protocol.schema import Schema

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
MAX_INDEX: Final = 2**62

_Floats: TypeAlias = NDArray[np.float32]
_Words: TypeAlias = NDArray[np.uint32]
_Flags: TypeAlias = NDArray[np.bool_]

_BLOCK_WORDS: Final = 8  # one Philox counter yields 4 words of 64 bits, read as 8 of 32
_TO_ONE: Final = np.float32(2.0**-31)


def generate(
    kind: Kind, seed: int, indices: range | ArrayLike, *, anomaly_percent: float, features: int
) -> Samples:
    """Generate the samples with the given indices, in the order given.

    `indices` is a range, or integers [n], each from 0 up to 2**62; repeats are allowed.
    `anomaly_percent` is the share of anomalies, 0 to 100.

    Returns x float32 [n, features] and y float32 [n]. Raises ValueError for an unknown kind, a
    negative seed, or an index or share out of range.
    """
    if kind not in _RECIPES:
        raise ValueError(
            _("unknown kind of data {kind!r}: choose one of {kinds}").format(
                kind=kind, kinds=", ".join(KINDS)
            )
        )
    recipe = _RECIPES[kind]
    wanted = _as_indices(indices)
    y = anomaly_labels(wanted, anomaly_percent=anomaly_percent)
    x = np.empty((len(wanted), features), dtype=np.float32)
    stream = _Stream(_key(kind, seed), blocks=_blocks_for(recipe.words(features)))
    for start in range(0, len(wanted), recipe.rows):
        rows = slice(start, start + recipe.rows)
        recipe.fill(x[rows], stream.words(wanted[rows]), y[rows] != 0)
    return Samples(x, y)


def generated_width(schema: Schema) -> int:
    """Return the number of features that synthetic samples of a schema have.

    Raises InvalidRequest unless it has one input of floats, and at most one target of one number.
    """
    (first, *more), targets = schema.inputs.values(), list(schema.targets.values())
    is_fit = not more and first.numpy_type.kind == "f" and len(targets) < 2
    if not is_fit or any(spec.shape for spec in targets):
        raise InvalidRequest(
            _("synthetic samples have one input of floats and one label"),
            hint=_("give your own samples with --data FILE"),
        )
    return math.prod(first.shape)


def generate_tensors(
    kind: Kind, seed: int, indices: range | ArrayLike, *, anomaly_percent: float, schema: Schema
) -> dict[str, NDArray[np.generic]]:
    """Generate samples as `generate` does, as the tensors of a schema."""
    width = generated_width(schema)
    made = generate(kind, seed, indices, anomaly_percent=anomaly_percent, features=width)
    ((name, spec),) = schema.inputs.items()
    x = made.x.reshape(len(made.x), *spec.shape).astype(spec.numpy_type, copy=False)
    labels = {
        target: made.y.astype(spec.numpy_type, copy=False)
        for target, spec in schema.targets.items()
    }
    return {name: x, **labels}


def anomaly_labels(indices: range | ArrayLike, *, anomaly_percent: float) -> _Floats:
    """Label each index: sample i is an anomaly when floor((i+1)p) > floor(ip), p the share.

    The share is the decimal value of `anomaly_percent`, computed exactly, so that the first n
    samples have floor(np) anomalies for every n. (Shares of more than nine
    significant digits count as the nearest fraction with a denominator up to 10**9.)

    Returns float32 [n], 0 or 1. Raises ValueError for a share outside 0 to 100.
    """
    if not 0 <= anomaly_percent <= 100:
        raise ValueError(
            _("the share of anomalies is 0 to 100 percent, got {given}").format(
                given=anomaly_percent
            )
        )
    share = (Fraction(str(anomaly_percent)) / 100).limit_denominator(10**9)
    # floor(ip) steps with the period of the denominator, which keeps the products in 64 bits.
    phase = _as_indices(indices) % share.denominator
    before = phase * share.numerator // share.denominator
    after = (phase + 1) * share.numerator // share.denominator
    return (after > before).astype(np.float32)


# --- random words ---------------------------------------------------------------------------------


def _as_indices(indices: range | ArrayLike) -> NDArray[np.int64]:
    """Check indices and convert them to int64 [n]."""
    if isinstance(indices, range):
        ends = (indices[0], indices[-1]) if indices else (0, 0)
        if min(ends) < 0 or max(ends) > MAX_INDEX:
            raise ValueError(
                _("sample indices run from 0 to 2**62, got {first} to {last}").format(
                    first=ends[0], last=ends[1]
                )
            )
        return np.arange(indices.start, indices.stop, indices.step, dtype=np.int64)
    given = np.asarray(indices)
    if given.size == 0:
        return np.empty(0, dtype=np.int64)
    if given.ndim != 1 or given.dtype.kind not in "iu":
        raise ValueError(
            _("sample indices are a list of integers, got {dtype} {shape}").format(
                dtype=given.dtype, shape=given.shape
            )
        )
    if given.min() < 0 or given.max() > MAX_INDEX:
        raise ValueError(
            _("sample indices run from 0 to 2**62, got {first} to {last}").format(
                first=given.min(), last=given.max()
            )
        )
    return given.astype(np.int64)


def _key(kind: Kind, seed: int) -> int:
    """Derive the 128-bit Philox key of a kind and a seed."""
    if seed < 0:
        raise ValueError(_("a seed is 0 or more, got {seed}").format(seed=seed))
    digest = hashlib.sha256(f"omega21 samples 1 {kind} {seed}".encode()).digest()
    return int.from_bytes(digest[:16], "little")


class _Stream:
    """The random words of each sample of one (kind, seed): `blocks` Philox counters a sample."""

    def __init__(self, key: int, *, blocks: int) -> None:
        self._philox = np.random.Philox(key=key, counter=0)
        self._blocks = blocks
        self._position = 0

    def words(self, indices: NDArray[np.int64]) -> _Words:
        """Read the words of the samples with these indices: uint32 [n, 8 * blocks]."""
        width = self._blocks * _BLOCK_WORDS
        words = np.empty((len(indices), width), dtype="<u4")
        for start, stop in _consecutive(indices):
            block = int(indices[start]) * self._blocks
            self._philox.advance(block - self._position)
            raw = self._philox.random_raw((stop - start) * width // 2)
            words[start:stop] = raw.astype("<u8", copy=False).view("<u4").reshape(-1, width)
            self._position = block + (stop - start) * self._blocks
        return words


def _consecutive(indices: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Split into maximal ranges of consecutive indices, each of which is one read."""
    breaks = np.flatnonzero(np.diff(indices) != 1) + 1
    edges = [0, *breaks.tolist(), len(indices)]
    yield from itertools.pairwise(edges)


def _signed(words: _Words, out: _Floats | None = None) -> _Floats:
    """Uniform float32 in [-1, 1] from 32 random bits each."""
    return np.multiply(words.view(np.int32), _TO_ONE, out=out, dtype=np.float32)


def _unit(words: _Words) -> _Floats:
    """Uniform float32 in [0, 1] from 32 random bits each."""
    return words.astype(np.float32) * np.float32(2.0**-32)


def _below(words: _Words, bound: int) -> NDArray[np.int64]:
    """Uniform integers in [0, bound) from 32 random bits each (bias under bound / 2**32)."""
    return ((words.astype(np.uint64) * np.uint64(bound)) >> np.uint64(32)).astype(np.int64)


# --- simple: smooth noise, anomalies rough with a spike -------------------------------------------

_REACH: Final = 5  # of the moving average of 11, each side
_NEIGHBOURS: Final = 5  # each side of the spike


def _fill_simple(x: _Floats, words: _Words, anomaly: _Flags) -> None:
    """Uniform noise in [-1, 1]: normal rows smoothed, anomalous ones rough with one spike.

    At either end the centred moving average uses the part of its window that exists.
    """
    features = x.shape[1]
    noise = np.zeros((len(x), features + 2 * _REACH), dtype=np.float32)
    inside = slice(_REACH, _REACH + features)
    _signed(words[:, :features], out=noise[:, inside])
    np.divide(_window_sums(noise), _window_sizes(features), out=x)
    for row in np.flatnonzero(anomaly):
        x[row] = noise[row, inside]
        _spike(x[row], words[row, features:])


def _window_sums(values: _Floats) -> _Floats:
    """Sum each 11 neighbours in five additions: 11 = 8 + 2 + 1."""
    two = values[..., :-1] + values[..., 1:]
    four = two[..., :-2] + two[..., 2:]
    eight = four[..., :-4] + four[..., 4:]
    features = values.shape[-1] - 2 * _REACH
    sums: _Floats = eight[..., :features] + two[..., 8 : 8 + features]
    sums += values[..., 10 : 10 + features]
    return sums


@lru_cache(maxsize=8)
def _window_sizes(features: int) -> _Floats:
    return _window_sums(np.pad(np.ones(features, dtype=np.float32), _REACH))


def _spike(row: _Floats, words: _Words) -> None:
    """Triple one feature and raise up to five neighbours each side by up to 0.5 each."""
    centre = int(_below(words[:1], len(row))[0])
    raised = np.arange(centre - _NEIGHBOURS, centre + _NEIGHBOURS + 1)
    rise = _unit(words[1 : 2 + 2 * _NEIGHBOURS]) * np.float32(0.5)
    rise[_NEIGHBOURS] = 0
    there = (raised >= 0) & (raised < len(row))
    row[centre] *= 3
    row[raised[there]] += rise[there]


# --- temporal: a trend with a period, anomalies shaken in the second half -------------------------

_STEPS: Final = 16
_T: Final = np.arange(_STEPS, dtype=np.float32)
_PERIOD: Final = np.array([0.3 * math.sin(2 * math.pi * t / _STEPS) for t in range(_STEPS)], "f4")
_SHAKE: Final = np.array(
    [1.5 * math.sin(t * math.pi / 3) if t >= _STEPS // 2 else 0.0 for t in range(_STEPS)], "f4"
)


def _fill_temporal(x: _Floats, words: _Words, anomaly: _Flags) -> None:
    """16 steps of equal width: feature j of a step with value v is v + 0.1 sin(j v)."""
    start = _signed(words[:, :1])
    growth = _unit(words[:, 1:2]) * np.float32(0.05)
    noise = _signed(words[:, 2 : 2 + _STEPS]) * np.float32(0.1)
    value = start + growth * _T + _PERIOD + noise
    value[anomaly] += _SHAKE
    ripple = _sines_of_multiples(value, -(-x.shape[1] // _STEPS))
    ripple *= np.float32(0.1)
    ripple += value[:, :, None]
    x[...] = ripple.reshape(len(x), -1)[:, : x.shape[1]]


def _sines_of_multiples(value: _Floats, number: int) -> _Floats:
    """sin(j v) for j = 0 … number - 1: [..., number] for v of any shape, |v| < 4.

    The error is under 1e-6 for the first hundred. With j = 10 a + b, sin(j v) = sin(10 a v)
    cos(b v) + cos(10 a v) sin(b v). The first ten multiples of v, and those of 10 v, come from v by
    the same rule in float64.
    """
    sin_b, cos_b = _multiples(*_sine_cosine(value.astype(np.float64)), 10)
    sin_10 = sin_b[9] * cos_b[1] + cos_b[9] * sin_b[1]
    cos_10 = cos_b[9] * cos_b[1] - sin_b[9] * sin_b[1]
    sin_a, cos_a = (
        np.stack(p, -1, dtype="f4")[..., None] for p in _multiples(sin_10, cos_10, -(-number // 10))
    )
    sines: _Floats = sin_a * np.stack(cos_b, -1, dtype="f4")[..., None, :]
    sines += cos_a * np.stack(sin_b, -1, dtype="f4")[..., None, :]
    return sines.reshape(*value.shape, -1)[..., :number]


def _sine_cosine(v: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sine and cosine of |v| < 4 by their series to v**27: a remainder under 1e-12.

    numpy's own differ in the last bit from one processor to another.
    """
    squared = v * v
    sine, cosine = np.zeros_like(v), np.zeros_like(v)
    for power in range(26, -1, -2):
        cosine = cosine * -squared + 1 / math.factorial(power)
        sine = sine * -squared + 1 / math.factorial(power + 1)
    return sine * v, cosine


def _multiples(
    sine: NDArray[np.float64], cosine: NDArray[np.float64], number: int
) -> tuple[list[NDArray[np.float64]], list[NDArray[np.float64]]]:
    """Sines and cosines of 0, 1, … times an angle, as many as `number`, by turning."""
    sines, cosines = [np.zeros_like(sine)], [np.ones_like(cosine)]
    for _turn in range(number - 1):
        last_sine, last_cosine = sines[-1], cosines[-1]
        sines.append(last_sine * cosine + last_cosine * sine)
        cosines.append(last_cosine * cosine - last_sine * sine)
    return sines, cosines


# --- neuronal: bumps of activity, anomalies with more, higher and wider ones ----------------------


class _Bumps(NamedTuple):
    """Parameters of one class of samples: bumps per sample, their width, their amplitudes."""

    number: int
    width: int
    lowest: float
    highest: float


_NORMAL: Final = _Bumps(number=50, width=10, lowest=0.5, highest=0.8)
_ANOMALY: Final = _Bumps(number=100, width=20, lowest=1.5, highest=2.5)
_SIGMA: Final = 5.0
_MARGIN: Final = _ANOMALY.width // 2  # space for bumps that extend beyond either end


def _fill_neuronal(x: _Floats, words: _Words, anomaly: _Flags) -> None:
    """Sums of Gaussian bumps at random places, each sample scaled to a maximum of 1."""
    for rows, bumps in ((~anomaly, _NORMAL), (anomaly, _ANOMALY)):
        x[rows] = _bump_sums(words[rows], bumps, features=x.shape[1])


def _bump_sums(words: _Words, bumps: _Bumps, *, features: int) -> NDArray[np.float64]:
    """Add up the bumps of each row; one of width w covers [centre - w/2, centre + w/2)."""
    rows, padded = len(words), features + 2 * _MARGIN
    centre = _below(words[:, : bumps.number], features)
    drawn = words[:, _ANOMALY.number : _ANOMALY.number + bumps.number]
    amplitude = bumps.lowest + (bumps.highest - bumps.lowest) * _unit(drawn).astype(np.float64)
    offset = np.arange(-(bumps.width // 2), bumps.width // 2)
    # Rounded to float32, in which the math libraries of all systems agree.
    shape = np.array([math.exp(-(d**2) / (2 * _SIGMA**2)) for d in offset.tolist()], "f4")
    row_start = np.arange(rows)[:, None] * padded + _MARGIN
    cells = (row_start + centre)[:, :, None] + offset
    heights = amplitude[:, :, None] * shape.astype(np.float64)
    # bincount adds in the order given, which for one row does not depend on the others.
    sums = np.bincount(cells.ravel(), weights=heights.ravel(), minlength=rows * padded)
    inside = sums.reshape(rows, padded)[:, _MARGIN : _MARGIN + features]
    highest: NDArray[np.float64] = inside.max(axis=1, keepdims=True, initial=0.0)
    return inside / highest


# --- the kinds ------------------------------------------------------------------------------------


class _Recipe(NamedTuple):
    """Parameters of one kind: random words of a sample, rows at a time, words to rows.

    The numbers of rows are the fastest measured. With 8 rows the many temporaries of `simple`
    stay under the 128 kB above which the C library asks the system for fresh pages each time.
    """

    words: Callable[[int], int]
    rows: int
    fill: Callable[[_Floats, _Words, _Flags], None]


def _blocks_for(words: int) -> int:
    return -(-words // _BLOCK_WORDS)


_RECIPES: Final[dict[Kind, _Recipe]] = {
    "simple": _Recipe(lambda features: features + 2 + 2 * _NEIGHBOURS, 8, _fill_simple),
    "temporal": _Recipe(lambda _features: 2 + _STEPS, 64, _fill_temporal),
    "neuronal": _Recipe(lambda _features: 2 * _ANOMALY.number, 64, _fill_neuronal),
}
