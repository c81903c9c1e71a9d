"""The services of the routes: the engine, long polls, and thread pools for slow calls."""

from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Header, Query, Request

from omega21.engine.engine import Engine
from omega21.executors.memory import MemoryHistory
from omega21.language import N_
from omega21.protocol.history import RunPosition
from omega21.protocol.link.tunnels import TunnelKind
from omega21.protocol.names import RunName
from omega21.protocol.runs import RunSummary
from omega21.server.http.long_poll import LongPolls
from omega21.server.http.thread_pools import ThreadPool
from omega21.server.http.usage import TrafficMeter


@dataclass(frozen=True, kw_only=True)
class Services:
    """Everything that a call needs; one for each app.

    Calls of milliseconds share the web framework's own threads. The pools are for the others:
    `inline` batches, which wait for their training, `compute`, which waits for the current step,
    and `uploads`, which decode and sync. `long_polls` wait for results, `viewers` for any change of
    a run.
    """

    engine: Engine
    long_polls: LongPolls[RunSummary]
    viewers: LongPolls[RunPosition]
    memory: MemoryHistory
    traffic: TrafficMeter
    tunnel: TunnelKind = "none"
    inline: ThreadPool = field(
        default_factory=lambda: ThreadPool(N_("inline batches"), threads=8, waiting=16)
    )
    compute: ThreadPool = field(
        default_factory=lambda: ThreadPool(N_("computations"), threads=4, waiting=64)
    )
    uploads: ThreadPool = field(
        default_factory=lambda: ThreadPool(N_("uploads"), threads=4, waiting=64)
    )


async def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


ServicesHere = Annotated[Services, Depends(_services)]

RunQuery = Annotated[RunName, Query(alias="run", description="the run; `default` without it")]
"""The run of one of the seven older calls."""

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        description="makes a retry safe: the same key and body get the same reply",
        examples=["3b0c2a54-8f8f-4e3c-9d52-6a4f0a3c9e10"],
    ),
]
