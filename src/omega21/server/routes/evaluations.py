"""Evaluations: recorded by the client that computed them, read by the dashboard and others."""

from typing import Annotated

from fastapi import APIRouter, Query

from omega21.protocol.errors import (
    BodyTooLarge,
    OtherRun,
    RunDeleted,
    StorageFull,
    UnknownRun,
    UnsupportedEncoding,
)
from omega21.protocol.evaluations import EvaluationRow, EvaluationsReply, RecordEvaluation
from omega21.protocol.names import RunName
from omega21.server.http.bodies import MessageRoute
from omega21.server.http.errors import problems
from omega21.server.openapi import examples
from omega21.server.openapi.examples import body, reply
from omega21.server.services import ServicesHere

router = APIRouter(tags=["evaluations"], route_class=MessageRoute)


@router.post(
    "/runs/{run}/evaluations",
    responses=reply(examples.EVALUATION)
    | problems(UnknownRun, OtherRun, RunDeleted, StorageFull, BodyTooLarge, UnsupportedEncoding),
)
def record_evaluation(
    services: ServicesHere,
    run: RunName,
    evaluation: Annotated[RecordEvaluation, body(examples.RECORD_EVALUATION)],
) -> EvaluationRow:
    """Record an evaluation, on disk before the reply; repeating it changes nothing."""
    return services.engine.history.record_evaluation(run, evaluation)


@router.get(
    "/runs/{run}/evaluations",
    responses=reply(examples.EVALUATIONS_REPLY) | problems(UnknownRun),
)
def get_evaluations(
    services: ServicesHere,
    run: RunName,
    after: Annotated[int, Query(ge=0, le=2**53, description="the last number known")] = 0,
) -> EvaluationsReply:
    """Return a run's evaluations after a cursor, at most 1000, in the order of arrival."""
    return services.engine.history.evaluations(run, after=after)
