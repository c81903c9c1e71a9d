"""Runs: create, read, control, remove."""

from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Query, Response

from omega21.engine.engine import Engine
from omega21.protocol.errors import (
    BodyTooLarge,
    CodeNotAllowed,
    InstallFailed,
    OtherConfig,
    OtherRun,
    RunDeleted,
    TooManyRuns,
    UnknownCode,
    UnknownRun,
    UnsupportedEncoding,
)
from omega21.protocol.names import DEFAULT_RUN, RunId, RunName
from omega21.protocol.runs import (
    Advance,
    Control,
    CreateRun,
    ListedRun,
    RunList,
    RunRemoved,
    RunState,
    RunSummary,
)
from omega21.server.http.bodies import MessageRoute
from omega21.server.http.errors import problems
from omega21.server.openapi import examples
from omega21.server.openapi.examples import body, reply
from omega21.server.services import ServicesHere

router = APIRouter(tags=["runs"], route_class=MessageRoute)


@router.get("/runs", responses=reply(examples.RUN_LIST) | problems())
def list_runs(services: ServicesHere) -> RunList:
    """List the runs of this server."""
    return RunList(runs=list(_listed(services.engine)))


def _listed(engine: Engine) -> Iterator[ListedRun]:
    for summary in engine.runs.summaries():
        if summary.run == DEFAULT_RUN and not summary.plan_steps:
            continue  # it is created with the server, and is unused
        try:
            loss, _metrics = engine.history.newest(summary.run)
            evaluation = engine.history.newest_evaluation(summary.run)
        except UnknownRun:  # removed meanwhile
            continue
        metrics = {} if evaluation is None else evaluation.metrics
        yield ListedRun(**summary.model_dump(), loss=loss, metrics=metrics)


@router.put(
    "/runs/{run}",
    responses=reply(examples.RUN_STATE, "The run was there already")
    | reply(examples.RUN_STATE, "The run was made", status=201, model=RunState)
    | problems(
        OtherRun,
        OtherConfig,
        RunDeleted,
        TooManyRuns,
        CodeNotAllowed,
        UnknownCode,
        InstallFailed,
        BodyTooLarge,
        UnsupportedEncoding,
    ),
)
async def create_run(
    services: ServicesHere,
    run: RunName,
    *,
    create: Annotated[CreateRun, body(examples.CREATE_RUN)],
    response: Response,
) -> RunState:
    """Create a run, or confirm that it exists with this id and configuration."""
    made = await services.compute.run(services.engine.runs.create, run, create.id, create.config)
    response.status_code = 201 if made else 200
    return await services.compute.run(services.engine.runs.state, run)


@router.get("/runs/{run}", responses=reply(examples.RUN_STATE) | problems(UnknownRun))
async def get_run(services: ServicesHere, run: RunName) -> RunState:
    """Return a run's state; waits for the current step, since it digests the weights."""
    return await services.compute.run(services.engine.runs.state, run)


@router.delete(
    "/runs/{run}",
    responses=reply(examples.RUN_REMOVED) | problems(UnknownRun, OtherRun, RunDeleted),
)
def remove_run(
    services: ServicesHere, run: RunName, run_id: Annotated[RunId, Query()]
) -> RunRemoved:
    """Remove a run; its id cannot be used again."""
    services.engine.runs.remove(run, run_id)
    return RunRemoved(run=run, id=run_id)


@router.post(
    "/runs/{run}/advance",
    responses=reply(examples.RUN_SUMMARY)
    | problems(UnknownRun, OtherRun, RunDeleted, BodyTooLarge, UnsupportedEncoding),
)
def advance_run(
    services: ServicesHere, run: RunName, advance: Annotated[Advance, body(examples.ADVANCE)]
) -> RunSummary:
    """Raise a run's target; a lower one changes nothing, and one beyond the plan is refused."""
    return services.engine.plans.advance(run, advance.run_id, advance.to)


@router.put(
    "/runs/{run}/control",
    responses=reply(examples.RUN_SUMMARY)
    | problems(UnknownRun, OtherRun, RunDeleted, BodyTooLarge, UnsupportedEncoding),
)
def control_run(
    services: ServicesHere, run: RunName, control: Annotated[Control, body(examples.CONTROL)]
) -> RunSummary:
    """Pause or resume a run; the highest revision wins, older ones change nothing."""
    return services.engine.plans.control(
        run, control.run_id, revision=control.revision, paused=control.paused
    )
