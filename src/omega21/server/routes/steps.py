"""Step records, by cursor and by long poll."""

import asyncio
from typing import Annotated, Final

from anyio.to_thread import run_sync
from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from omega21.protocol.errors import UnknownRun
from omega21.protocol.messages import Request as RequestMessage
from omega21.protocol.names import RunName
from omega21.protocol.runs import RunSummary
from omega21.protocol.steps import MAX_ROWS, MAX_ROWS_WITH_VECTORS, MAX_WAIT_SECONDS, StepsReply
from omega21.server.http.bodies import JSON_MEDIA_TYPE
from omega21.server.http.disconnects import unless_disconnected
from omega21.server.http.errors import problems
from omega21.server.openapi import examples
from omega21.server.openapi.examples import reply
from omega21.server.services import Services, ServicesHere

router = APIRouter(tags=["steps"])

_AT_WORK: Final = frozenset({"training", "waiting"})
"""States of a run that continues by itself, or when its samples arrive."""


class StepsQuery(RequestMessage):
    """The range of results, and how long to wait for them."""

    after: int = Field(default=0, ge=0, le=2**53, description="the last step already known")
    wait: float = Field(
        default=0, ge=0, description="seconds to wait for a first row; more than 25 count as 25"
    )
    gather: float = Field(
        default=0, ge=0, description="seconds to go on collecting once there is something"
    )
    limit: int = Field(
        default=MAX_ROWS, ge=1, le=MAX_ROWS, description="most rows; with vectors at most 250"
    )
    vectors: bool = Field(default=False, description="whether rows hold the task's vectors")

    @property
    def most_rows(self) -> int:
        """Number of records in one reply."""
        return min(self.limit, MAX_ROWS_WITH_VECTORS) if self.vectors else self.limit


@router.get(
    "/runs/{run}/steps",
    response_model=StepsReply,
    responses=reply(examples.STEPS_REPLY) | problems(UnknownRun),
)
async def get_steps(
    request: Request,
    services: ServicesHere,
    *,
    run: RunName,
    query: Annotated[StepsQuery, Query()],
) -> Response:
    """Return results after a cursor, ascending, and the run's position.

    With `wait`, answers at once if there are records, else when there is one, when the run's state
    changes, when a finished run has its checkpoint, or when the wait is over. With `gather`, then
    collects until the run is finished or stopped, the limit is reached, or the time is over. A run
    that waits for samples is not stopped.
    """
    content = await unless_disconnected(request, _collect(services, run, query))
    return Response(content, media_type=JSON_MEDIA_TYPE)


async def _collect(services: Services, run: str, query: StepsQuery) -> str:
    clock = asyncio.get_running_loop().time
    ends = clock() + MAX_WAIT_SECONDS
    known = await _read(services, run, query)

    def due_with_news(now: RunSummary) -> int | None:
        is_safe = now.state == "idle" and now.durable_step != known.durable_step
        is_other = (now.id, now.state) != (known.id, known.state)
        return None if now.step > query.after or is_other or is_safe else query.after + 1

    def due_gathered(now: RunSummary) -> int | None:
        enough = min(now.target, query.after + query.most_rows)
        return None if now.step >= enough or now.state not in _AT_WORK else enough

    long_polls = services.long_polls
    if not known.steps and query.wait > 0:
        await long_polls.wait(run, due_with_news, seconds=min(query.wait, MAX_WAIT_SECONDS))
        known = known if long_polls.closed else await _read(services, run, query)
    left = ends - clock()
    may_gather = query.gather > 0 and (known.steps or query.wait > 0)
    if may_gather and left > 0 and due_gathered(known) is not None:
        await long_polls.wait(run, due_gathered, seconds=min(query.gather, left))
        known = known if long_polls.closed else await _read(services, run, query)
    return await run_sync(_write, known)


async def _read(services: Services, run: str, query: StepsQuery) -> StepsReply:
    return await run_sync(
        lambda: services.engine.step_records.page(
            run, after=query.after, limit=query.most_rows, vectors=query.vectors
        )
    )


def _write(known: StepsReply) -> str:
    # Default values are left out, which keeps a record small.
    return known.model_dump_json(exclude_defaults=True)
