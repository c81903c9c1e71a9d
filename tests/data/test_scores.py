"""AUROC and average precision against their definitions, counted pair by pair."""

from collections.abc import Callable
from itertools import pairwise
from random import Random

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from omega21.data.scores import auroc, average_precision, thresholds
from omega21.protocol.errors import InvalidSamples

Scored = list[tuple[float, int]]

few_levels = st.sampled_from([0.0, 0.25, 0.5, 1.0, -3.0])
scored = st.lists(
    st.tuples(few_levels | st.floats(-1e6, 1e6), st.integers(0, 1)), min_size=2, max_size=40
).filter(lambda rows: len({label for _, label in rows}) == 2)


def counted_auroc(rows: Scored) -> float:
    anomalies = [score for score, label in rows if label]
    normal = [score for score, label in rows if not label]
    wins = sum((a > n) + (a == n) / 2 for a in anomalies for n in normal)
    return wins / (len(anomalies) * len(normal))


def counted_average_precision(rows: Scored) -> float:
    total, recall, area = sum(label for _, label in rows), 0.0, 0.0
    for threshold in sorted({score for score, _ in rows}, reverse=True):
        taken = [label for score, label in rows if score >= threshold]
        area += (sum(taken) / total - recall) * sum(taken) / len(taken)
        recall = sum(taken) / total
    return area


@given(scored)
def test_both_equal_their_definitions(rows: Scored) -> None:
    scores, labels = zip(*rows, strict=True)
    assert auroc(scores, labels) == pytest.approx(counted_auroc(rows), abs=1e-12)
    expected = counted_average_precision(rows)
    assert average_precision(scores, labels) == pytest.approx(expected, abs=1e-12)


@given(scored, st.randoms())
def test_neither_depends_on_the_order_of_samples(rows: Scored, random: Random) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)
    for score in (auroc, average_precision):
        assert score(*zip(*rows, strict=True)) == score(*zip(*shuffled, strict=True))


def test_known_values() -> None:
    labels = np.array([0, 0, 1, 1], dtype=np.float32)
    assert auroc([0.1, 0.2, 0.3, 0.4], labels) == 1
    assert average_precision([0.1, 0.2, 0.3, 0.4], labels) == 1
    assert auroc([0.4, 0.3, 0.2, 0.1], labels) == 0
    assert auroc([0.5] * 4, labels) == 0.5
    assert average_precision([0.5] * 4, labels) == 0.5


@pytest.mark.parametrize("score", [auroc, average_precision])
@pytest.mark.parametrize(
    ("scores", "labels", "words"),
    [
        ([0.1, 0.2], [0, 0], "samples of both classes"),
        ([0.1, 0.2], [1, 1], "samples of both classes"),
        ([], [], "samples of both classes"),
        ([0.1, float("nan")], [0, 1], "NaN"),
        ([0.1, 0.2], [0, 2], "neither 0 nor 1"),
        ([0.1], [0, 1], "scores and"),
    ],
)
def test_what_cannot_be_ranked_is_named(
    score: Callable[..., float], scores: list[float], labels: list[int], words: str
) -> None:
    with pytest.raises(InvalidSamples, match=words):
        score(scores, labels)


def test_thresholds_count_what_each_makes_of_the_scores() -> None:
    found = thresholds([0.1, 0.4, 0.4, 0.8, 0.9], [0, 1, 0, 0, 1])

    assert found.threshold.tolist() == [0.9, 0.8, 0.4, 0.1]
    assert found.true_positives.tolist() == [1, 1, 2, 2]
    assert found.false_positives.tolist() == [0, 1, 2, 3]
    assert found.recall.tolist() == [0.5, 0.5, 1.0, 1.0]
    assert found.fall_out.tolist() == [0, 1 / 3, 2 / 3, 1]
    assert found.precision.tolist() == [1.0, 0.5, 0.5, 0.4]
    assert found.best() == 0  # 0.9 and 0.4 have the same F1 of 2/3: the higher threshold


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=60))
def test_the_areas_under_the_curves_are_the_two_figures(samples: list[tuple[int, bool]]) -> None:
    scores, labels = [score / 5 for score, _ in samples], [int(label) for _, label in samples]
    assume(0 < sum(labels) < len(labels))
    found = thresholds(scores, labels)

    across, up = [0.0, *found.fall_out], [0.0, *found.recall]
    area = sum(
        (right - left) * (low + high) / 2
        for (left, right), (low, high) in zip(pairwise(across), pairwise(up), strict=True)
    )
    assert area == pytest.approx(auroc(scores, labels))
    gained = [now - before for before, now in pairwise([0.0, *found.recall])]
    precision = sum(gain * found.precision[place] for place, gain in enumerate(gained))
    assert precision == pytest.approx(average_precision(scores, labels))
