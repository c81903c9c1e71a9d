"""Which samples a step trains on, and what seeds it: pure functions of the plan's numbers.

Permutations are the stable argsort of raw 64-bit words of Philox. numpy promises the stream of a
bit generator forever, but may change `Generator.permutation`; a run that is repeated years later
must use its samples in the same order. The key of each permutation is a hash of everything it
depends on, so that the permutations of adjacent seeds and epochs are unrelated.
"""

import hashlib
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Batch(NamedTuple):
    """The samples of one step: positions [start, stop) in the order of an epoch, epochs from 0."""

    epoch: int
    start: int
    stop: int


def steps_per_epoch(samples: int, batch_size: int) -> int:
    """Count the batches of one epoch; the last one is kept, short."""
    return -(-samples // batch_size)


def batch_of_step(step: int, *, samples: int, batch_size: int, epochs: int) -> Batch:
    """Find the batch of a segment's step; its steps are numbered from 1.

    No batch spans two epochs. Raises ValueError for a step outside the segment.
    """
    per_epoch = steps_per_epoch(samples, batch_size)
    if not 1 <= step <= per_epoch * epochs:
        raise ValueError(f"step {step} is outside a segment of {per_epoch * epochs} steps")
    epoch, place = divmod(step - 1, per_epoch)
    start = place * batch_size
    return Batch(epoch, start, min(start + batch_size, samples))


def presentation_order(seed: int, *, offset: int, samples: int) -> NDArray[np.int64]:
    """Return the order in which samples are cut into shards and used in the first epoch.

    Returns int64 [samples]: the indices offset, …, offset + samples - 1, shuffled by the data
    seed (and by the segment's offset and length).
    """
    return offset + _permutation(f"presentation {seed} {offset} {samples}", samples)


def epoch_order(order_seed: int, *, epoch: int, samples: int) -> NDArray[np.int64]:
    """Return the order of a segment's samples in an epoch, as positions in its list of shards.

    Returns int64 [samples]: the identity in epoch 0, so that training starts with the first
    shard; a permutation by (order seed, epoch) after it.
    """
    if epoch == 0:
        return np.arange(samples, dtype=np.int64)
    return _permutation(f"epoch {order_seed} {epoch} {samples}", samples)


def step_seed(run_seed: int, step: int) -> int:
    """Return the seed of all randomness in a step, 0 to 2**63 - 1; no generator state is stored."""
    return _hash(f"step {run_seed} {step}") >> 193


def _permutation(name: str, samples: int) -> NDArray[np.int64]:
    words = np.random.Philox(key=_hash(name) >> 128, counter=0).random_raw(samples)
    return np.argsort(words, kind="stable").astype(np.int64, copy=False)


def _hash(name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"omega21 order 1 {name}".encode()).digest(), "big")
