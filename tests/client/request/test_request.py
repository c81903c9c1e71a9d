"""Which samples an order takes, and which it never does."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omega21.client.request.presets import PRESETS
from omega21.client.request.request import (
    FileFacts,
    TrainRequest,
    check_same_config,
    next_segment,
)
from omega21.client.request.sources import GeneratedSamples, open_source, validation_blocks
from omega21.data.sources.files import open_data, write_data
from omega21.data.sources.generators import generate
from omega21.models.corteza.config import TINY_TASK
from omega21.models.registry import default_config
from omega21.protocol.errors import (
    InvalidDataFile,
    InvalidRequest,
    OtherConfig,
    RunFolderConflict,
)
from omega21.protocol.plan import Segment, Source
from omega21.protocol.schema import Schema, TensorSpec
from omega21.protocol.tasks.task import CodeTask

CONFIG = default_config()


def order(**options: Any) -> TrainRequest:
    return TrainRequest(run="one", **options)


def facts(samples: int, held_out: int | None = None) -> FileFacts:
    return FileFacts(sha256="f" * 64, samples=samples, held_out=held_out)


@given(st.lists(st.tuples(st.sampled_from(["simple", "temporal"]), st.integers(1, 5000))))
def test_generated_segments_follow_each_other_without_overlap(parts: list[tuple[Any, int]]) -> None:
    segments: list[Segment] = []
    for kind, samples in parts:
        segments.append(
            next_segment(order(kind=kind, samples=samples), segments, file=None).segment
        )
    starts = [segment.source.offset for segment in segments]
    assert starts == [sum(samples for _, samples in parts[:n]) for n in range(len(parts))]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"samples": 0}, "samples: .* got 0"),
        ({"batch_size": 0}, "batch-size: .* got 0"),
        ({"epochs": 0}, "epochs"),
        ({"seed": -1}, "seed"),
        ({"anomaly_percent": 101.0}, "anomaly-percent"),
        ({"anomaly_percent": float("nan")}, "anomaly-percent"),
        ({"validation": -1}, "validation"),
        ({"validation": 100_001}, "0 to 100000 samples, got 100001"),
        ({"samples": 2**40 + 1}, "at most"),
        ({"kind": "other"}, "kind"),
        ({"micro_batch": 0}, "micro-batch"),
        ({"samples": 25_600_001}, "more than the 25600000 that fit in one segment"),
    ],
)
def test_an_option_out_of_range_is_named(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        next_segment(order(**options), (), file=None)


def test_a_batch_that_is_too_large_for_memory_is_named() -> None:
    schema = Schema(inputs={"x": TensorSpec(dtype="float32", shape=(224, 224, 3))})
    task = CodeTask(entry="net:build", code_sha256="0" * 64)
    large = order(task=task, sample_schema=schema, batch_size=8000, samples=8000)
    with pytest.raises(InvalidRequest, match="8000 samples has 4816896000 bytes"):
        next_segment(large, (), file=facts(9000))
    few = order(task=task, sample_schema=schema, batch_size=8000, samples=1000)
    assert next_segment(few, (), file=facts(9000)).segment.batch_size == 8000


@pytest.mark.parametrize(
    ("samples", "validation", "rows", "expected"),
    [
        (100, 1000, 300, (100, 200)),  # what is left, when that is less than asked for
        (100, 50, 300, (100, 50)),
        (300, 50, 300, (300, 0)),
        (None, 1000, 300, (240, 60)),  # a fifth, when the file is to be trained as a whole
        (None, 10, 300, (290, 10)),
        (None, 0, 300, (300, 0)),
        (None, 5, 1, (1, 0)),
    ],
)
def test_what_a_file_trains_and_holds_out(
    samples: int | None, validation: int, rows: int, expected: tuple[int, int]
) -> None:
    new = next_segment(order(samples=samples, validation=validation), (), file=facts(rows))
    assert (new.segment.samples, new.held_out) == expected


def test_what_a_file_holds_out_stays_held_out() -> None:
    first = next_segment(order(samples=100, validation=150), (), file=facts(300))
    more = next_segment(order(samples=None), [first.segment], file=facts(300, held_out=150))
    assert (more.segment.source.offset, more.segment.samples, more.held_out) == (100, 50, 150)
    with pytest.raises(InvalidRequest, match="50 samples left for training"):
        next_segment(order(samples=51), [first.segment], file=facts(300, held_out=150))


def test_another_configuration_is_named_field_by_field() -> None:
    there = order().config()
    check_same_config("one", asked=order().config(), there=there)
    with pytest.raises(OtherConfig, match=r"task\.config\.encoder_width is \d+, asked for 8"):
        check_same_config("one", asked=order(task=TINY_TASK).config(), there=there)
    with pytest.raises(OtherConfig, match="precision is auto, asked for float16; seed is 42"):
        check_same_config("one", asked=order(precision="float16", seed=1).config(), there=there)


def test_generated_validation_is_made_of_other_samples() -> None:
    segment = next_segment(order(samples=512), (), file=None).segment
    (block,) = validation_blocks(segment.source, 100, files={}, config=CONFIG)
    expected = generate("simple", 42, range(2**40, 2**40 + 100), anomaly_percent=10, features=1600)
    assert np.array_equal(block["x"], expected.x)
    trained = {
        row.tobytes() for row in GeneratedSamples(segment, CONFIG.sample_schema).block(0, 512)["x"]
    }
    assert trained.isdisjoint(row.tobytes() for row in block["x"])
    assert (
        sum(
            len(block["y"])
            for block in validation_blocks(segment.source, 600, files={}, config=CONFIG)
        )
        == 600
    )


def test_a_segment_is_shuffled_and_every_sample_comes_once() -> None:
    segment = next_segment(order(samples=300), (), file=None).segment
    samples = GeneratedSamples(segment, CONFIG.sample_schema).block(0, 300)
    plain = generate("simple", 42, range(300), anomaly_percent=10, features=1600)
    assert not np.array_equal(samples["x"], plain.x)
    assert sorted(row.tobytes() for row in samples["x"]) == sorted(r.tobytes() for r in plain.x)
    assert np.array_equal(
        GeneratedSamples(segment, CONFIG.sample_schema).block(100, 120)["x"], samples["x"][100:120]
    )


@pytest.mark.parametrize("ending", ["npz", "safetensors"])
def test_a_file_is_trained_in_shuffled_order_and_its_end_is_held_out(
    tmp_path: Any, ending: str
) -> None:
    path = tmp_path / f"mine.{ending}"
    samples = generate("simple", 3, range(50), anomaly_percent=20, features=1600)
    write_data(path, samples.tensors)
    sha256 = open_data(path).sha256()
    files = {sha256: str(path)}
    source = Source(kind="file", seed=1, file_sha256=sha256)
    trained = open_source(
        Segment(samples=30, batch_size=8, source=source), files, config=CONFIG
    ).block(0, 30)
    (held_out,) = validation_blocks(source, 20, files=files, config=CONFIG)

    rows = [row.tobytes() for row in (*trained["x"], *held_out["x"])]
    assert sorted(rows) == sorted(row.tobytes() for row in samples.x)
    assert rows != [row.tobytes() for row in samples.x]

    write_data(path, generate("simple", 4, range(50), anomaly_percent=20, features=1600).tensors)
    with pytest.raises(InvalidDataFile, match="not the file that this segment was created with"):
        open_source(Segment(samples=30, batch_size=8, source=source), files, config=CONFIG)
    with pytest.raises(InvalidDataFile, match="--data"):
        open_source(Segment(samples=30, batch_size=8, source=source), {}, config=CONFIG)


def test_inline_samples_cannot_be_made_again() -> None:
    segment = Segment(samples=4, batch_size=4, source=Source(kind="inline"))
    with pytest.raises(RunFolderConflict, match="inline"):
        open_source(segment, {}, config=CONFIG)


def test_presets_are_orders() -> None:
    assert list(PRESETS) == [
        "prueba_rapida",
        "entrenamiento_estandar",
        "deteccion_anomalias",
        "entrenamiento_pesado",
    ]
    for preset in PRESETS.values():
        asked = order(
            samples=preset.samples,
            batch_size=preset.batch_size,
            kind=preset.kind,
            anomaly_percent=preset.anomaly_percent,
        )
        assert next_segment(asked, (), file=None).segment.samples == preset.samples
