"""The plan of a run: add, extend and read segments."""

from typing import Annotated

from fastapi import APIRouter, Path, Response

from omega21.protocol.errors import (
    BodyTooLarge,
    InvalidSamples,
    OtherRun,
    PlanConflict,
    RunDeleted,
    StillRunning,
    UnknownRun,
    UnsupportedEncoding,
)
from omega21.protocol.names import RunName
from omega21.protocol.plan import Plan, PutSegment, SegmentStored
from omega21.server.http.bodies import JSON_MEDIA_TYPE, MessageRoute
from omega21.server.http.errors import problems
from omega21.server.openapi import examples
from omega21.server.openapi.examples import body, reply
from omega21.server.services import ServicesHere

router = APIRouter(tags=["plan"], route_class=MessageRoute)

SegmentNumber = Annotated[int, Path(ge=0, lt=2**31, description="segments count from 0")]


@router.put(
    "/runs/{run}/plan/{number}",
    responses=reply(examples.SEGMENT_STORED)
    | problems(
        UnknownRun, OtherRun, RunDeleted, PlanConflict, StillRunning, InvalidSamples,
        BodyTooLarge, UnsupportedEncoding,
    ),
)  # fmt: skip
async def put_segment(
    services: ServicesHere,
    run: RunName,
    *,
    number: SegmentNumber,
    put: Annotated[PutSegment, body(examples.PUT_SEGMENT)],
) -> SegmentStored:
    """Add a segment to the plan, or extend its list of shards.

    A list that is a prefix of the stored one changes nothing; anything else is a conflict.
    """
    return await services.uploads.run(
        services.engine.plans.put_segment, run, number, run_id=put.run_id, segment=put.segment
    )


@router.get(
    "/runs/{run}/plan",
    response_model=Plan,
    responses=reply(examples.PLAN) | problems(UnknownRun),
)
def get_plan(services: ServicesHere, run: RunName) -> Response:
    """Return the segments of a run's plan, with their lists of shards."""
    # Encoded here, in a thread: a plan may have a hundred thousand shards.
    plan = services.engine.plans.get(run)
    return Response(plan.model_dump_json(), media_type=JSON_MEDIA_TYPE)
