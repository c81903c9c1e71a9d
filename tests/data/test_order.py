"""The order of samples: pure functions, whole permutations, batches without gaps."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omega21.data.order import (
    batch_of_step,
    epoch_order,
    presentation_order,
    step_seed,
    steps_per_epoch,
)

seeds = st.integers(0, 2**63 - 1)


@given(seed=seeds, epoch=st.integers(0, 10**6), samples=st.integers(1, 300))
def test_an_epoch_is_a_permutation_by_seed_and_epoch(seed: int, epoch: int, samples: int) -> None:
    order = epoch_order(seed, epoch=epoch, samples=samples)
    assert order.dtype == np.int64
    assert np.array_equal(np.sort(order), np.arange(samples))
    assert np.array_equal(order, epoch_order(seed, epoch=epoch, samples=samples))


def test_the_first_epoch_is_in_the_order_given_and_later_ones_differ() -> None:
    orders = [epoch_order(1, epoch=epoch, samples=500).tolist() for epoch in range(4)]
    assert orders[0] == list(range(500))
    assert len({tuple(order) for order in orders}) == 4
    assert epoch_order(2, epoch=1, samples=500).tolist() != orders[1]


@given(seed=seeds, offset=st.integers(0, 2**62 - 300), samples=st.integers(1, 300))
def test_presentation_covers_the_segment(seed: int, offset: int, samples: int) -> None:
    order = presentation_order(seed, offset=offset, samples=samples)
    assert order.dtype == np.int64
    assert np.array_equal(np.sort(order), offset + np.arange(samples))


def test_orders_stay_as_released() -> None:
    assert presentation_order(42, offset=0, samples=8).tolist() == [4, 2, 3, 6, 1, 0, 5, 7]
    assert epoch_order(42, epoch=1, samples=8).tolist() == [3, 1, 0, 4, 5, 7, 6, 2]
    assert step_seed(42, 1) == 1960649584366086710
    assert step_seed(42, 2) == 5131202027248548528


@given(
    samples=st.integers(1, 200),
    batch_size=st.integers(1, 80),
    epochs=st.integers(1, 4),
)
def test_batches_tile_every_epoch(samples: int, batch_size: int, epochs: int) -> None:
    steps = steps_per_epoch(samples, batch_size) * epochs
    geometry = {"samples": samples, "batch_size": batch_size, "epochs": epochs}
    batches = [batch_of_step(step, **geometry) for step in range(1, steps + 1)]
    met = [(b.epoch, place) for b in batches for place in range(b.start, b.stop)]
    assert met == [(epoch, place) for epoch in range(epochs) for place in range(samples)]
    assert all(b.stop - b.start == batch_size or b.stop == samples for b in batches)
    for outside in (0, steps + 1):
        with pytest.raises(ValueError, match="outside a segment"):
            batch_of_step(outside, **geometry)


@given(seed=seeds, step=st.integers(1, 2**62))
def test_step_seeds_are_63_bits_and_differ(seed: int, step: int) -> None:
    assert 0 <= step_seed(seed, step) < 2**63
    assert step_seed(seed, step) != step_seed(seed, step + 1)
    assert step_seed(seed, step) != step_seed(seed + 1, step)
