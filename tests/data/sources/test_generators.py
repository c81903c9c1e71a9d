"""The generators: pure, exact in their share, and as described."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from omega21.data.samples import Samples, statistics
from omega21.data.sources.generators import KINDS, MAX_INDEX, anomaly_labels, generate
from omega21.protocol.digests import tensors_sha256
from omega21.protocol.plan import Kind

Floats = NDArray[np.float32]

kinds = st.sampled_from(KINDS)
shares = st.sampled_from([0, 0.1, 3, 10, 12.5, 33.3, 50, 99.9, 100])

FEATURES = 1600


def same(first: Samples, second: Samples) -> bool:
    return first.x.tobytes() == second.x.tobytes() and first.y.tobytes() == second.y.tobytes()


@settings(max_examples=60, deadline=None)
@given(
    kind=kinds,
    seed=st.integers(0, 2**63 - 1),
    share=shares,
    start=st.integers(0, MAX_INDEX - 200),
    places=st.lists(st.integers(0, 149), max_size=40),
)
def test_any_part_in_any_order_has_the_same_bits(
    kind: Kind, seed: int, share: float, start: int, places: list[int]
) -> None:
    whole = generate(
        kind, seed, range(start, start + 150), anomaly_percent=share, features=FEATURES
    )
    part = generate(
        kind,
        seed,
        np.array(places, dtype=np.int64) + start,
        anomaly_percent=share,
        features=FEATURES,
    )
    assert same(part, Samples(whole.x[places], whole.y[places]))


@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_alone_is_the_same_as_among_others(kind: Kind) -> None:
    whole = generate(kind, 7, range(65), anomaly_percent=10, features=FEATURES)
    for i in (0, 9, 64):
        alone = generate(kind, 7, [i], anomaly_percent=10, features=FEATURES)
        assert same(alone, Samples(whole.x[i : i + 1], whole.y[i : i + 1]))


@pytest.mark.parametrize(
    ("kind", "digest"),
    [
        ("simple", "2ef82afedef0b30a"),
        ("temporal", "d406555a55f17923"),
        ("neuronal", "d176286f4768bffa"),
    ],
)
def test_bits_stay_as_released_on_every_machine(kind: Kind, digest: str) -> None:
    samples = generate(kind, 42, range(2**40, 2**40 + 30), anomaly_percent=10, features=FEATURES)
    assert tensors_sha256(samples._asdict()).startswith(digest)


@pytest.mark.parametrize("kind", KINDS)
def test_normal_samples_do_not_depend_on_the_share(kind: Kind) -> None:
    few = generate(kind, 3, range(40), anomaly_percent=10, features=FEATURES)
    many = generate(kind, 3, range(40), anomaly_percent=50, features=FEATURES)
    normal = (few.y == 0) & (many.y == 0)
    assert normal.any()
    assert np.array_equal(few.x[normal], many.x[normal])


@given(numerator=st.integers(0, 10_000), start=st.integers(0, MAX_INDEX - 1000))
def test_labels_follow_the_floor_rule_exactly(numerator: int, start: int) -> None:
    labels = anomaly_labels(range(start, start + 100), anomaly_percent=numerator / 100)
    expected = [
        (i + 1) * numerator // 10_000 > i * numerator // 10_000 for i in range(start, start + 100)
    ]
    assert labels.astype(bool).tolist() == expected


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("percent", [0, 7, 10, 15, 20, 12.5, 100])
def test_every_prefix_holds_the_share_asked_for(kind: Kind, percent: float) -> None:
    labels = generate(kind, 1, range(200), anomaly_percent=percent, features=FEATURES).y
    found = np.cumsum(labels)
    assert [math.floor((n + 1) * percent / 100) for n in range(200)] == found.tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_seeds_kinds_and_indices_give_different_samples(kind: Kind) -> None:
    rows = np.concatenate(
        [
            generate(kind, seed, range(50), anomaly_percent=10, features=FEATURES).x
            for seed in (0, 1, 2**62)
        ]
    )
    assert len(np.unique(rows, axis=0)) == 150


@pytest.mark.parametrize("kind", KINDS)
def test_types_and_shapes(kind: Kind) -> None:
    samples = generate(kind, 0, range(3), anomaly_percent=10, features=FEATURES)
    assert samples.x.dtype == samples.y.dtype == np.float32
    assert samples.x.shape == (3, FEATURES)
    assert samples.y.shape == (3,)
    assert generate(kind, 0, [], anomaly_percent=10, features=FEATURES).x.shape == (0, FEATURES)


def test_simple_samples_are_smooth_and_anomalies_have_one_spike() -> None:
    normal = generate("simple", 5, range(100), anomaly_percent=0, features=FEATURES).x
    rough = generate("simple", 5, range(100), anomaly_percent=100, features=FEATURES).x
    assert np.abs(normal).max() <= 1
    assert np.abs(rough).max() <= 3
    noise = rough[0].copy()
    changed = np.abs(normal[0] - _moving_average(noise)) > 1e-6
    # The spike and its neighbours reach 5 features further through the average.
    assert 0 < changed.sum() <= 21
    assert np.ptp(np.flatnonzero(changed)) <= 20


def _moving_average(row: Floats) -> Floats:
    return np.array([row[max(0, j - 5) : j + 6].mean() for j in range(len(row))])


def test_temporal_samples_are_what_their_first_features_say() -> None:
    normal = generate("temporal", 5, range(200), anomaly_percent=0, features=FEATURES).x.reshape(
        200, 16, 100
    )
    shaken = generate("temporal", 5, range(200), anomaly_percent=100, features=FEATURES).x.reshape(
        200, 16, 100
    )
    for steps in (normal, shaken):
        value = steps[:, :, :1].astype(np.float64)
        expected = value + 0.1 * np.sin(np.arange(100) * value)
        assert np.abs(steps - expected).max() < 1e-6
    time = np.arange(16)
    shake = np.where(time >= 8, 1.5 * np.sin(time * math.pi / 3), 0)
    assert np.abs(shaken[:, :, 0] - normal[:, :, 0] - shake).max() < 1e-6
    trend = normal[:, :, 0] - 0.3 * np.sin(2 * math.pi * time / 16)
    assert trend.min() >= -1.1
    assert trend.max() <= 1 + 15 * 0.05 + 0.1
    assert trend[:, 0].min() < -0.9
    assert trend[:, 0].max() > 0.9


def test_neuronal_samples_are_sums_of_bumps_scaled_to_one() -> None:
    for percent, count, width in ((0, 50, 10), (100, 100, 20)):
        x = generate("neuronal", 5, range(300), anomaly_percent=percent, features=FEATURES).x
        assert x.min() == 0
        assert np.all(x.max(axis=1) == 1)
        # Away from the ends, a feature is empty when all bumps miss the `width` places around it.
        empty = (x[:, 50:-50] == 0).mean()
        assert empty == pytest.approx((1 - width / FEATURES) ** count, abs=0.02)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("other", 0, range(1), 10), "unknown kind of data 'other'"),
        (("simple", -1, range(1), 10), "a seed is 0 or more"),
        (("simple", 0, range(1), 100.5), "0 to 100 percent"),
        (("simple", 0, range(1), float("nan")), "0 to 100 percent"),
        (("simple", 0, range(-1, 1), 10), "from 0 to 2**62"),
        (("simple", 0, [2**62 + 1], 10), "from 0 to 2**62"),
        (("simple", 0, [0.5], 10), "a list of integers"),
    ],
)
def test_bad_arguments_are_named(arguments: tuple[Any, ...], words: str) -> None:
    kind, seed, indices, percent = arguments
    with pytest.raises(ValueError, match=words.replace("*", r"\*")):
        generate(kind, seed, indices, anomaly_percent=percent, features=FEATURES)


def test_statistics_describe_the_set() -> None:
    samples = generate("simple", 2, range(200), anomaly_percent=10, features=FEATURES)
    described = statistics(samples)
    assert (described.samples, described.normal, described.anomalies) == (200, 180, 20)
    assert described.anomaly_percent == 10
    assert described.minimum == samples.x.min()
    assert described.maximum == samples.x.max()
    assert described.mean == pytest.approx(samples.x.astype(np.float64).mean())
    assert described.standard_deviation == pytest.approx(samples.x.astype(np.float64).std())
    with pytest.raises(ValueError, match="empty set"):
        statistics(Samples(samples.x[:0], samples.y[:0]))
