"""Eight clients at once on four runs of one server: make, train, restore, remove and read them.

Each does what it likes when it likes, so every call meets a run that another is just changing or
has just removed. That may be refused. It may not break: no reply of 500 and more, no trace, and no
connection that ends without a reply.
"""

import hashlib
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import anyio
import httpx
from anyio.to_thread import run_sync

from chaos.stage import Stage
from omega21.models.corteza.config import TINY
from omega21.protocol.shards import SHARD_MEDIA_TYPE
from omega21.server.openapi import examples, legacy
from tests.engine.engines import CONFIG, cut, make_samples, make_segment

AT_ONCE = 8
SECONDS = 60.0
RUNS = ("race-a", "race-b", "race-c", "default")

_PARTS = 5
_STEPS = 4
_ORIGIN = "0" * 31 + "1"
_PART_MEDIA_TYPE = "application/octet-stream"
_READS = (
    "/runs", "/runs/{run}", "/runs/{run}/plan", "/runs/{run}/plan/0", "/runs/{run}/steps",
    "/runs/{run}/steps?vectors=true&after=1", "/runs/{run}/steps?wait=0.2&gather=0.1&after=9",
    "/runs/{run}/series?points=4&vectors=true", "/runs/{run}/series?wait=0.2&gather=0.1",
    "/runs/{run}/feedback", "/runs/{run}/evaluations", "/events?run={run}", "/events",
    "/status?run={run}", "/metricas?run={run}", "/info?run={run}", "/prometheus", "/logs?lines=50",
    "/memory", "/health",
)  # fmt: skip


@dataclass(frozen=True)
class Answered:
    """A call and what it was answered with."""

    call: str
    status: int
    text: str


@dataclass
class Races:
    """The clients of one server at `address`, and what they were answered."""

    address: str
    seed: int
    token: str | None = None
    counts: Counter[str] = field(default_factory=Counter)
    broken: list[Answered] = field(default_factory=list)
    _ids: dict[str, str] = field(default_factory=dict)
    _checkpoint: bytes = b""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._shards = cut(make_samples(64), 32)
        segment = make_segment(self._shards, batch_size=16, epochs=50, order_seed=1)
        self._segment = segment.model_dump(mode="json")

    def play(self, *, seconds: float) -> None:
        """Prepare, then race for so long; what came of it is in `counts` and `broken`."""
        with self._client() as http:
            self._prepare(http)
        ends = time.monotonic() + seconds
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for done in [pool.submit(self._race, number, ends) for number in range(AT_ONCE)]:
                done.result()

    def _client(self) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        return httpx.Client(base_url=self.address, headers=headers, timeout=60, trust_env=False)

    def _prepare(self, http: httpx.Client) -> None:
        """Store the samples, and make a checkpoint that any run can go on from."""
        for shard in self._shards:
            self._put_shard(http, shard.sha256, shard.plain).raise_for_status()
        self._make(http, "race-origin", _ORIGIN, steps=_STEPS)
        path = f"/runs/race-origin/steps?after={_STEPS}&wait=25"
        while (now := http.get(path).raise_for_status().json())["durable_step"] < _STEPS:
            assert now["state"] in {"training", "idle"}, now
        reply = http.get("/runs/race-origin/checkpoint")
        self._checkpoint = reply.raise_for_status().content

    # --- one client ---

    def _race(self, number: int, ends: float) -> None:
        rng = random.Random(f"{self.seed}/{number}")
        calls: tuple[Callable[[httpx.Client, str, random.Random], None], ...] = (
            self._make_new, self._restore, self._restore, self._put_pieces, self._pull, self._pull,
            self._train, self._steer, self._remove, self._compute, self._note, self._read,
            self._read, self._read,
        )  # fmt: skip
        with self._client() as http:
            while time.monotonic() < ends:
                rng.choice(calls)(http, rng.choice(RUNS), rng)

    def _ask(self, http: httpx.Client, method: str, path: str, **given: Any) -> httpx.Response:
        call = f"{method} {path}"
        try:
            reply = http.request(method, path, **given)
        except httpx.HTTPError as error:
            reply = httpx.Response(0, text=f"{type(error).__name__}: {error}")
        with self._lock:
            self.counts[f"{method} {path.partition('?')[0].rpartition('/')[2][:12]}"] += 1
            if not 200 <= reply.status_code < 500:
                self.broken.append(Answered(call, reply.status_code, reply.text[:300]))
        return reply

    def _id(self, run: str) -> str:
        with self._lock:
            return self._ids.get(run, _ORIGIN)

    def _put_shard(self, http: httpx.Client, sha256: str, body: bytes) -> httpx.Response:
        headers = {"Content-Type": SHARD_MEDIA_TYPE}
        return self._ask(http, "PUT", f"/shards/{sha256}", content=body, headers=headers)

    def _make(self, http: httpx.Client, run: str, run_id: str, *, steps: int) -> None:
        config = CONFIG.model_dump(mode="json")
        made = self._ask(http, "PUT", f"/runs/{run}", json={"id": run_id, "config": config})
        if made.is_success:
            with self._lock:
                self._ids[run] = run_id
        put = {"run_id": run_id, "segment": self._segment}
        self._ask(http, "PUT", f"/runs/{run}/plan/0", json=put)
        self._ask(http, "POST", f"/runs/{run}/advance", json={"run_id": run_id, "to": steps})

    def _make_new(self, http: httpx.Client, run: str, rng: random.Random) -> None:
        self._make(http, run, f"{rng.getrandbits(128):032x}", steps=rng.choice((0, 2, 40)))

    def _remove(self, http: httpx.Client, run: str, _rng: random.Random) -> None:
        known = self._ask(http, "GET", f"/runs/{run}")
        if known.is_success:
            self._ask(http, "DELETE", f"/runs/{run}?run_id={known.json()['id']}")

    def _parts(self, run_id: str) -> Iterator[tuple[str, bytes]]:
        # Ids have one length and stand in the header.
        whole = self._checkpoint.replace(_ORIGIN.encode(), run_id.encode())
        size = -(-len(whole) // _PARTS)
        for start in range(0, len(whole), size):
            part = whole[start : start + size]
            yield hashlib.sha256(part).hexdigest(), part

    def _put_pieces(self, http: httpx.Client, run: str, rng: random.Random) -> None:
        parts = list(self._parts(self._id(run)))
        for sha256, part in rng.sample(parts, len(parts)):
            path = f"/runs/{run}/checkpoint/parts/{sha256}"
            headers = {"Content-Type": _PART_MEDIA_TYPE}
            self._ask(http, "PUT", path, content=part, headers=headers)

    def _restore(self, http: httpx.Client, run: str, rng: random.Random) -> None:
        run_id = self._id(run)
        self._put_pieces(http, run, rng)
        parts = dict(self._parts(run_id))
        whole = b"".join(parts.values())
        body = {
            "run_id": run_id,
            "sha256": hashlib.sha256(whole).hexdigest(),
            "bytes": len(whole),
            "parts": list(parts),
        }
        self._ask(http, "PUT", f"/runs/{run}/checkpoint", json=body)

    def _pull(self, http: httpx.Client, run: str, rng: random.Random) -> None:
        query = rng.choice(("", "", "?step=4", "?part=weights"))
        headers = rng.choice(({}, {"Range": "bytes=100-"}, {"Range": "bytes=0-9,20-29"}))
        self._ask(http, "GET", f"/runs/{run}/checkpoint{query}", headers=headers)

    def _train(self, http: httpx.Client, run: str, rng: random.Random) -> None:
        sample = {"input_data": [0.5] * TINY.features, "anomaly_label": 1}
        body = {"samples": [sample] * 2, "epochs": rng.choice((1, 3))}
        headers = rng.choice(({}, {"Idempotency-Key": f"key-{rng.randrange(3)}"}))
        self._ask(http, "POST", f"/train_layer2?run={run}", json=body, headers=headers)

    def _steer(self, http: httpx.Client, run: str, rng: random.Random) -> None:
        run_id = self._id(run)
        control = {"run_id": run_id, "revision": rng.randrange(9), "paused": rng.random() < 0.3}
        self._ask(http, "PUT", f"/runs/{run}/control", json=control)
        to = {"run_id": run_id, "to": rng.randrange(60)}
        self._ask(http, "POST", f"/runs/{run}/advance", json=to)

    def _compute(self, http: httpx.Client, run: str, rng: random.Random) -> None:
        asked = {"shards": [shard.sha256 for shard in self._shards]}
        call = rng.choice(("predict", "evaluate"))
        self._ask(http, "POST", f"/runs/{run}/{call}", json=asked)
        shard = rng.choice(self._shards)
        self._put_shard(http, shard.sha256, shard.plain)

    def _note(self, http: httpx.Client, run: str, _rng: random.Random) -> None:
        self._ask(http, "POST", f"/feedback_dendritas?run={run}", json=legacy.FEEDBACK)
        evaluation = examples.RECORD_EVALUATION | {"run_id": self._id(run)}
        self._ask(http, "POST", f"/runs/{run}/evaluations", json=evaluation)

    def _read(self, http: httpx.Client, run: str, rng: random.Random) -> None:
        self._ask(http, "GET", rng.choice(_READS).format(run=run))


async def on_one_server(stage: Stage) -> None:
    """Race on the stage's server; then a run has to come out as the undisturbed one there."""
    for number in range(stage.times):
        races = Races(stage.server.address, stage.rng.randrange(2**31))
        await run_sync(partial(races.play, seconds=SECONDS))
        assert not races.broken, races.broken[:5]
        assert "Traceback" not in stage.server.log, "a trace in the log"
        stage.faults[f"{AT_ONCE} clients at once on {len(RUNS)} runs for {SECONDS:.0f} s"] += 1
        await stage.train(f"after-{number}", anyio.sleep_forever)
