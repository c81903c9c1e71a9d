"""Shards that do not fit a run's schema are named: tensor, found, expected."""

from pathlib import Path

import numpy as np
import pytest

from omega21.engine.samples import check_listed, check_listed_on_disk, check_to_compute
from omega21.engine.storage.shards import ShardStore
from omega21.models.registry import default_config
from omega21.protocol.digests import tensors_sha256
from omega21.protocol.errors import InvalidSamples, PlanConflict
from omega21.protocol.plan import SamplesType, Segment, ShardRef, Source
from omega21.protocol.runs import RunConfig
from omega21.protocol.schema import Schema, TensorSpec
from omega21.protocol.tasks.task import CodeTask
from tests.schemas import Array

IMAGES = RunConfig(
    task=CodeTask(entry="net:build", code_sha256="0" * 64),
    sample_schema=Schema(
        inputs={
            "image": TensorSpec(dtype="uint8", shape=(3, 4, 4)),
            "size": TensorSpec(dtype="float32", shape=(2,)),
        },
        targets={"label": TensorSpec(dtype="int64")},
    ),
)
GOOD: dict[str, Array] = {
    "image": np.zeros((5, 3, 4, 4), np.uint8),
    "size": np.full((5, 2), np.nan, np.float32),  # what a value may be is up to the user's task
    "label": np.arange(5),
}


def segment(samples_type: SamplesType = "float32") -> Segment:
    return Segment(samples=5, batch_size=5, source=Source(kind="file"), samples_type=samples_type)


def check_everywhere(
    folder: Path, tensors: dict[str, Array], *, config: RunConfig, listed: Segment, samples: int = 5
) -> None:
    """Check a shard as it comes, and as one that is on disk before it is listed."""
    sha256 = tensors_sha256(tensors)
    ref = ShardRef(sha256=sha256, samples=samples)
    store = ShardStore(folder, limit=10**9)
    store.put(sha256, tensors, pinned=set)
    raised: list[Exception] = []
    try:
        check_listed(tensors, ref, run="mine", segment=listed, config=config)
    except (InvalidSamples, PlanConflict) as error:
        raised.append(error)
    try:
        check_listed_on_disk(store.open(sha256), ref, run="mine", segment=listed, config=config)
    except (InvalidSamples, PlanConflict) as error:
        raised.append(error)
    if raised:
        one, other = map(str, raised)  # both refuse it, for the same reason
        assert one == other
        raise raised[0]


def test_what_fits_is_listed(tmp_path: Path) -> None:
    extra = {**GOOD, "other": np.zeros(5, np.int8)}  # of another run of the same shard
    for tensors in (GOOD, extra):
        check_everywhere(tmp_path, tensors, config=IMAGES, listed=segment())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image": None}, "there is no tensor 'image'"),
        ({"label": None}, "there is no tensor 'label'"),
        ({"image": np.zeros((5, 4, 4, 3), np.uint8)},
         r"image has shape \[5, 4, 4, 3\], expected \[n, 3, 4, 4\]"),
        ({"label": np.zeros((5, 1), np.int64)}, r"label has shape \[5, 1\], expected \[n\]"),
        ({"image": np.zeros((5, 3, 4, 4), np.float32)}, "image has type float32, expected uint8"),
        ({"label": np.zeros(5, np.int32)}, "label has type int32, expected int64"),
        ({"size": np.zeros((5, 2), np.float16)}, "size has type float16, expected float32"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(
    tmp_path: Path, change: dict[str, Array | None], words: str
) -> None:
    tensors = {name: array for name, array in {**GOOD, **change}.items() if array is not None}
    with pytest.raises(InvalidSamples, match=f"shard {tensors_sha256(tensors)[:12]}: .*{words}"):
        check_everywhere(tmp_path, tensors, config=IMAGES, listed=segment())


def test_float16_is_for_float32_inputs_of_a_segment_that_says_so(tmp_path: Path) -> None:
    halved = {**GOOD, "size": np.zeros((5, 2), np.float16)}
    check_everywhere(tmp_path, halved, config=IMAGES, listed=segment("float16"))


def test_another_number_of_samples_is_named(tmp_path: Path) -> None:
    with pytest.raises(PlanConflict, match="has 5 samples; the plan of run 'mine' lists it with 4"):
        check_everywhere(tmp_path, GOOD, config=IMAGES, listed=segment(), samples=4)


@pytest.mark.parametrize("label", [2.0, -1.0, 0.5, np.nan])
def test_labels_are_checked_where_the_kind_of_task_asks_for_it(
    tmp_path: Path, label: float
) -> None:
    tensors: dict[str, Array] = {
        "x": np.zeros((5, 1600), np.float32),
        "y": np.array([0, 1, 1, label, 0], np.float32),
    }
    with pytest.raises(InvalidSamples, match="neither 0 nor 1, sample 3"):
        check_everywhere(tmp_path, tensors, config=default_config(), listed=segment())


def test_outputs_need_no_targets_and_scores_do(tmp_path: Path) -> None:
    inputs = {name: array for name, array in GOOD.items() if name != "label"}
    store = ShardStore(tmp_path, limit=10**9)
    sha256 = tensors_sha256(inputs)
    store.put(sha256, inputs, pinned=set)
    shard = store.open(sha256)
    check_to_compute(shard, sha256, config=IMAGES, labelled=False)
    with pytest.raises(InvalidSamples, match="no tensor 'label'"):
        check_to_compute(shard, sha256, config=IMAGES, labelled=True)
