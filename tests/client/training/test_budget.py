"""What a training needs, told before it starts; float16 by choice; a budget that is kept."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from omega21 import AsyncClient
from omega21.client.events import Event, Notice, RunReady
from omega21.client.http.usage import default_path
from omega21.client.store.run_folder import run_folder_path
from omega21.client.training.budget import LONGEST_GATHER, choose
from omega21.client.training.estimate import Choice, Workload
from omega21.client.training.options import TrainOptions
from omega21.data.samples import as_type
from omega21.data.usage import Counted, TrafficLedger
from omega21.models.registry import default_config
from omega21.protocol.digests import tensors_sha256
from omega21.protocol.errors import BudgetExceeded, InvalidSamples, UnknownRun
from omega21.protocol.plan import Segment, Source, plan_sha256
from omega21.protocol.shards import decode_shard
from tests.carriers import NGROK, TunnelCarrier
from tests.client.runs import done, of_type, stored, tiny, train
from tests.servers import RunningServer

pytestmark = pytest.mark.anyio

SEGMENT = Segment(
    samples=100_000, batch_size=64, source=Source(kind="neuronal", seed=1, anomaly_percent=10)
)

SCHEMA = default_config().sample_schema


@pytest.fixture(autouse=True)
def own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "own"))


def through_tunnel(server: RunningServer) -> AsyncClient:
    return AsyncClient(NGROK, token=server.token, transport=TunnelCarrier(server.address))


def notices(events: Sequence[Event]) -> str:
    return "\n".join(notice.text for notice in of_type(events, Notice))


def workload(**changed: Any) -> Workload:
    usual: dict[str, Any] = {
        "segment": SEGMENT,
        "config": default_config(),
        "samples": 100_000,
        "steps": 1563,
        "validation": 1000,
        "parameters": 12_000_000,
        "seconds_per_step": 1.0,
    }
    return Workload(**{**usual, **changed})


# --- float16 by choice ---


async def test_a_float16_run_is_recorded_and_comes_to_the_same_bits_again(
    server: RunningServer, tmp_path: Path
) -> None:
    rows, names = [], []
    async with AsyncClient(server.address, token=server.token) as client:
        for name in ("half-a", "half-b"):
            order = tiny(name, samples_type="float16", epochs=2)
            events = await train(client, order, workdir=tmp_path)
            (ready,) = of_type(events, RunReady)
            assert ready.segment.samples_type == "float16"
            assert done(events).evaluation is not None
            rows.append(stored(tmp_path / name))
            plan = await client.api.plans.get(name)
            names.append([ref.sha256 for ref in plan.segments[0].shards])
            assert plan.segments[0].samples_type == "float16"
        whole = await train(client, tiny("whole", epochs=2), workdir=tmp_path)
        verified = await client.verify("half-a", workdir=tmp_path)
    assert rows[0] == rows[1]
    assert names[0] == names[1]
    assert (verified.first, verified.last) == (1, len(rows[0]))
    assert rows[0] != stored(tmp_path / "whole")
    assert of_type(whole, RunReady)[0].segment.samples_type == "float32"

    body = (tmp_path / "half-a" / "shards" / f"{names[0][0]}.zst").read_bytes()
    tensors = decode_shard(body)
    assert {name: str(tensor.dtype) for name, tensor in tensors.items()} == {
        "x": "float16",
        "y": "float32",
    }
    assert tensors_sha256(tensors) == names[0][0]


def test_a_plan_without_float16_has_the_digest_that_it_had_before() -> None:
    segment = Segment(samples=3, batch_size=2, source=Source(kind="simple"))
    assert "samples_type" not in segment.model_dump_json()
    assert Segment.parse_lenient(segment.model_dump_json()) == segment
    half = segment.model_copy(update={"samples_type": "float16"})
    assert Segment.parse_lenient(half.model_dump_json()).samples_type == "float16"
    assert plan_sha256([half]) != plan_sha256([segment])
    assert not half.is_extension_of(segment)


def test_what_float16_cannot_hold_is_refused() -> None:
    x = np.full((1, 1600), 65_504, np.float32)
    y = np.zeros(1, np.float32)
    assert np.isfinite(
        as_type({"x": x, "y": y}, "float16", schema=SCHEMA)["x"].astype(np.float32)
    ).all()
    with pytest.raises(InvalidSamples, match="beyond 65504"):
        as_type({"x": x * 1.01, "y": y}, "float16", schema=SCHEMA)


# --- what it needs ---


@pytest.mark.parametrize("samples_type", ["float32", "float16"])
async def test_what_is_told_is_about_what_it_comes_to(
    server: RunningServer, tmp_path: Path, samples_type: Any
) -> None:
    name = f"told-{samples_type}"
    order = tiny(name, samples=1500, validation=300, epochs=3, samples_type=samples_type, seed=7)
    async with through_tunnel(server) as client:
        events = await train(client, order, workdir=tmp_path)
        counted = client.traffic
    told = next(text for text in notices(events).splitlines() if text.startswith("this training"))
    megabytes = float(told.split("about ")[1].split(" MB")[0])
    requests = int(told.split("and ")[1].split(" requests")[0])
    actual = (counted.bytes_sent + counted.bytes_received) / 1e6
    assert abs(megabytes - actual) < 0.05 * actual
    assert counted.requests / 2 < requests < counted.requests * 2


async def test_on_this_machine_nothing_is_told_without_a_budget(
    server: RunningServer, tmp_path: Path
) -> None:
    async with AsyncClient(server.address, token=server.token) as client:
        events = await train(client, tiny("local-quiet"), workdir=tmp_path)
    assert "this training needs" not in notices(events)


async def test_it_warns_when_the_month_does_not_leave_enough(
    server: RunningServer, tmp_path: Path
) -> None:
    host = NGROK.removeprefix("https://")
    TrafficLedger(default_path()).add(host, Counted(100, 999_000_000, 0))
    async with through_tunnel(server) as client:
        first = await train(client, tiny("warned"), workdir=tmp_path)
        # The second one counts with the pace that the first one had, and is warned no less.
        second = await train(client, tiny("warned", samples=200), workdir=tmp_path)
    for events in (first, second):
        assert "warning: ngrok's free plan leaves" in notices(events)
    assert done(first).summary.steps == 10


# --- a budget ---


def test_the_first_choice_that_fits_is_taken_and_what_costs_least_goes_first() -> None:
    load = workload()
    wanted = Choice(pull=600.0, gather=5.0)
    whole = load.needed(wanted).bytes
    choice, needed = choose(load, wanted, budget=whole, may_change_type=True)
    assert choice == wanted

    taken = []
    budget = whole
    while True:
        try:
            choice, needed = choose(load, wanted, budget=budget - 1, may_change_type=True)
        except BudgetExceeded:
            break
        assert needed.bytes < budget
        budget = needed.bytes
        taken.append(choice)
    assert taken == [
        Choice(pull=600.0, gather=LONGEST_GATHER),
        Choice(pull="end", gather=LONGEST_GATHER),
        Choice(pull="end", gather=LONGEST_GATHER, samples_type="float16"),
        Choice(pull="never", gather=LONGEST_GATHER, samples_type="float16"),
    ]


def test_the_users_type_is_not_changed() -> None:
    load = workload()
    half = load.needed(Choice(samples_type="float16", gather=LONGEST_GATHER)).bytes
    with pytest.raises(BudgetExceeded, match="needs at least about 1"):
        choose(load, Choice(), budget=half + 1000, may_change_type=False)
    choice, _ = choose(load, Choice(), budget=half + 1000, may_change_type=True)
    assert choice.samples_type == "float16"


def test_polls_and_pulls_follow_from_how_long_it_takes() -> None:
    often = workload().needed(Choice(gather=5.0))
    seldom = workload().needed(Choice(gather=20.0))
    assert often.requests - seldom.requests == 1563 // 5 + 1 - (1563 // 20 + 1)
    assert workload().needed(Choice(pull=300.0)).checkpoints == 6 * 144_000_000
    assert workload().needed(Choice(pull="end")).checkpoints == 144_000_000
    slow = workload(uplink=10_000.0).needed(Choice(gather=20.0))
    assert slow.requests > seldom.requests


async def test_a_budget_chooses_float16_and_the_run_says_so(
    server: RunningServer, tmp_path: Path
) -> None:
    async with AsyncClient(server.address, token=server.token) as client:
        order = tiny("thrifty", samples=600, validation=0, budget=2_000_000)
        events = await train(client, order, workdir=tmp_path)
        assert client.traffic.bytes_sent + client.traffic.bytes_received < 2_000_000
        plan = await client.api.plans.get("thrifty")
        assert plan.segments[0].samples_type == "float16"
        # The next segment chooses anew.
        more = await train(client, tiny("thrifty", samples=100, validation=0), workdir=tmp_path)
    assert "samples are sent as float16, results are read every 20 s" in notices(events)
    assert of_type(more, RunReady)[0].segment.samples_type == "float32"
    assert '"what":"budget","bytes":2000000,"samples_type":"float16"' in (
        tmp_path / "thrifty" / "log.jsonl"
    ).read_text(encoding="utf-8")


async def test_what_cannot_fit_is_refused_before_anything_is_made(
    server: RunningServer, tmp_path: Path
) -> None:
    async with AsyncClient(server.address, token=server.token) as client:
        with pytest.raises(BudgetExceeded, match=r"the budget is 1\.0 MB"):
            await train(client, tiny("refused", budget=1_000_000), workdir=tmp_path)
        with pytest.raises(UnknownRun):
            await client.api.runs.state("refused")
    assert not run_folder_path("refused", tmp_path).exists()


async def test_samples_that_the_server_has_need_no_bytes(
    server: RunningServer, tmp_path: Path
) -> None:
    async with AsyncClient(server.address, token=server.token) as client:
        order = tiny("twice", samples=600, validation=0)
        events = client.train(order, TrainOptions(workdir=tmp_path))
        async with events:
            async for event in events:
                if isinstance(event, RunReady):
                    break
        # Unfinished here; the server may have some or all of its samples.
        again = await train(
            client, tiny("twice", validation=0, budget=50_000_000), workdir=tmp_path
        )
    told = notices(again)
    assert "finishing it first" in told
    assert "this training needs about" in told
