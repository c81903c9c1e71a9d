"""A run's history: an aggregated series by long poll, feedback, events, memory."""

import asyncio
from typing import Annotated

from anyio.to_thread import run_sync
from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from omega21.protocol.errors import UnknownRun
from omega21.protocol.history import (
    MAX_EVENTS,
    MAX_FEEDBACK,
    MAX_POINTS,
    EventsReply,
    FeedbackHistory,
    MemoryReply,
    RunPosition,
    SeriesReply,
)
from omega21.protocol.messages import Request as RequestMessage
from omega21.protocol.names import RunName
from omega21.protocol.steps import MAX_WAIT_SECONDS
from omega21.server.http.bodies import JSON_MEDIA_TYPE
from omega21.server.http.disconnects import unless_disconnected
from omega21.server.http.errors import problems
from omega21.server.openapi import examples
from omega21.server.openapi.examples import reply
from omega21.server.services import Services, ServicesHere

router = APIRouter(tags=["history"])


class SeriesQuery(RequestMessage):
    """The part of a series, its resolution, and how long to wait for changes."""

    points: int = Field(default=300, ge=2, le=MAX_POINTS, description="most points of the whole")
    after: int = Field(default=0, ge=0, le=2**53, description="the last step already known")
    vectors: bool = Field(default=False, description="whether points hold the task's vectors")
    known: str = Field(
        default="",
        max_length=100,
        description="with `wait`: the `etag` of the last reply",
    )
    wait: float = Field(
        default=0, ge=0, description="seconds to wait for news; more than 25 count as 25"
    )
    gather: float = Field(
        default=0, ge=0, description="seconds to go on collecting while the run trains"
    )


@router.get(
    "/runs/{run}/series",
    response_model=SeriesReply,
    responses=reply(examples.SERIES_REPLY) | problems(UnknownRun),
)
async def get_series(
    request: Request,
    services: ServicesHere,
    *,
    run: RunName,
    query: Annotated[SeriesQuery, Query()],
) -> Response:
    """Return a run's aggregated results, from the point that covers the step after a cursor on.

    With `wait`, answers when something is new compared to `known`: a result, another state, an
    evaluation, feedback, an event; or when the wait is over. With `gather`, collects meanwhile,
    until the run is finished or does not train.
    """
    content = await unless_disconnected(request, _collect(services, run, query))
    return Response(content, media_type=JSON_MEDIA_TYPE)


async def _collect(services: Services, run: str, query: SeriesQuery) -> str:
    clock = asyncio.get_running_loop().time
    ends = clock() + MAX_WAIT_SECONDS
    viewers = services.viewers

    def due_with_news(now: RunPosition) -> int | None:
        return None if now.etag != query.known else now.step + 1

    def due_settled(now: RunPosition) -> int | None:
        return None if now.state != "training" or now.step >= now.target else now.target

    if query.wait > 0:
        await viewers.wait(run, due_with_news, seconds=min(query.wait, MAX_WAIT_SECONDS))
        left = min(query.gather, ends - clock())
        if left > 0:
            await viewers.wait(run, due_settled, seconds=left)
    return await run_sync(_read, services, run, query)


def _read(services: Services, run: str, query: SeriesQuery) -> str:
    series = services.engine.history.series(
        run, after=query.after, points=query.points, vectors=query.vectors
    )
    return series.model_dump_json()


@router.get(
    "/runs/{run}/feedback", responses=reply(examples.FEEDBACK_HISTORY) | problems(UnknownRun)
)
def get_feedback(
    services: ServicesHere,
    run: RunName,
    limit: Annotated[int, Query(ge=1, le=MAX_FEEDBACK, description="most rows")] = 100,
) -> FeedbackHistory:
    """Return a run's newest feedback, oldest first, with the success rate of all of it."""
    return services.engine.history.feedback(run, limit=limit)


@router.get("/events", responses=reply(examples.EVENTS_REPLY) | problems(UnknownRun))
def get_events(
    services: ServicesHere,
    run: Annotated[
        RunName | None, Query(description="of this run and the server; without it, of all")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_EVENTS, description="most events")] = 100,
) -> EventsReply:
    """Return the events, newest first: restarts, restores, non-finite steps, a full disk."""
    return EventsReply(events=services.engine.events.newest(run, limit=limit))


@router.get("/memory", responses=reply(examples.MEMORY_REPLY) | problems())
def get_memory(services: ServicesHere) -> MemoryReply:
    """Return the memory in use since the server process started."""
    return MemoryReply(samples=services.memory.samples())
