"""How large samples are on the wire, and how long they take to make and to encode.

python -m benchmarks.wire [--quick] [--json FILE]
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.bars import Bar, finish, median_bar, show
from omega21.data.sources.generators import KINDS, generate
from omega21.models.registry import default_config
from omega21.protocol.digests import tensors_sha256
from omega21.protocol.plan import Kind
from omega21.protocol.shards import decode_shard, encode_shard, samples_per_shard

SHARD_SAMPLES = samples_per_shard(default_config().sample_schema)
BATCH_SIZE = 64
MOST_BYTES: Final[dict[Kind, float]] = {"simple": 350e3, "temporal": 310e3, "neuronal": 120e3}
MOST_SHARE_IN_HALF = 0.55
GENERATED, MOST_GENERATING_SECONDS = 10_000, 0.5


def json_batch(kind: Kind, number: int) -> bytes:
    """Write a batch as the JSON of `/train_layer2`."""
    first = number * BATCH_SIZE
    samples = generate(kind, 0, range(first, first + BATCH_SIZE), anomaly_percent=10, features=1600)
    rows = zip(samples.x.tolist(), samples.y.tolist(), strict=True)
    return json.dumps(
        {"samples": [{"input_data": x, "anomaly_label": int(y)} for x, y in rows]}
    ).encode()


def sizes() -> tuple[list[Bar], dict[str, Any]]:
    """Encode a batch of each kind, in float32, in float16, and in JSON."""
    bars: list[Bar] = []
    figures: dict[str, Any] = {}
    for kind in KINDS:
        samples = generate(kind, 0, range(BATCH_SIZE), anomaly_percent=10, features=1600)
        whole = len(encode_shard({"x": samples.x, "y": samples.y}))
        half = len(encode_shard({"x": samples.x.astype(np.float16), "y": samples.y}))
        text = len(json_batch(kind, 0))
        bars.append(Bar(f"{kind}: bytes of a batch, float32", whole, MOST_BYTES[kind], most=True))
        bars.append(Bar(f"{kind}: float16 of float32", half / whole, MOST_SHARE_IN_HALF, most=True))
        figures[kind] = {"float32": whole, "float16": half, "json": text}
        print(f"  {kind}: float32 {whole}, float16 {half}, JSON {text} bytes")
    show(bars)
    return bars, figures


def speeds(rounds: int) -> tuple[list[Bar], dict[str, Any]]:
    """Time the client's work on samples, by CPU time, which other programs do not change."""
    bars: list[Bar] = []
    figures: dict[str, Any] = {}
    for kind in KINDS:
        seconds = [
            _cpu_seconds(
                lambda: generate(kind, 0, range(GENERATED), anomaly_percent=10, features=1600)  # noqa: B023
            )
            for _ in range(rounds)
        ]
        bars.append(
            median_bar(
                f"{kind}: seconds for 10,000 samples", seconds, MOST_GENERATING_SECONDS, most=True
            )
        )
        samples = generate(kind, 0, range(SHARD_SAMPLES), anomaly_percent=10, features=1600)
        tensors = {"x": samples.x, "y": samples.y}
        levels = {}
        for level in (-5, 1, 3, 6, 9):
            body = encode_shard(tensors, level=level)
            seconds = [
                _cpu_seconds(lambda: encode_shard(tensors, level=level))  # noqa: B023
                for _ in range(rounds)
            ]
            levels[level] = {"bytes": len(body), "seconds": min(seconds)}
        body = encode_shard(tensors)
        figures[kind] = {
            "encoding, by level": levels,
            "digest": min(_cpu_seconds(lambda: tensors_sha256(tensors)) for _ in range(rounds)),  # noqa: B023
            "decoding": min(_cpu_seconds(lambda: decode_shard(body)) for _ in range(rounds)),  # noqa: B023
        }
    show(bars)
    return bars, figures


def _cpu_seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark from the command line; 1 when a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.wire", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    given = parser.parse_args(arguments)
    bars, batch = sizes()
    more, work = speeds(3 if given.quick else 9)
    return finish([*bars, *more], {"batch": batch, "seconds": work}, path=given.json)


if __name__ == "__main__":
    sys.exit(main())
