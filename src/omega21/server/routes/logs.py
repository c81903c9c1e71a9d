"""The newest lines of this server's log, and what runs printed."""

from typing import Annotated

from fastapi import APIRouter, Query

from omega21.logs import SERVER_LOG, last_lines, without_secrets
from omega21.protocol.errors import UnknownRun
from omega21.protocol.logs import MAX_LOG_BYTES, MAX_LOG_LINES, LogLines, RunLog
from omega21.protocol.names import RunName
from omega21.server.http.errors import problems
from omega21.server.openapi import examples
from omega21.server.openapi.examples import reply
from omega21.server.services import ServicesHere

router = APIRouter(tags=["server"])


@router.get("/logs", responses=reply(examples.LOG_LINES) | problems())
def logs(
    services: ServicesHere,
    lines: Annotated[int, Query(ge=1, le=MAX_LOG_LINES, description="at most so many")] = 1000,
) -> LogLines:
    """Return the newest lines of the server's log, oldest first, at most 2 MB in total."""
    path = services.engine.folder.path / SERVER_LOG
    found = last_lines(path, lines, max_bytes=MAX_LOG_BYTES)
    return LogLines(lines=[without_secrets(line) for line in found])


@router.get("/runs/{run}/log", responses=reply(examples.RUN_LOG) | problems(UnknownRun))
def run_log(
    services: ServicesHere,
    *,
    run: RunName,
    after: Annotated[int, Query(ge=-1, description="a number; -1 for the newest lines")] = -1,
    limit: Annotated[int, Query(ge=1, le=MAX_LOG_LINES)] = 1000,
) -> RunLog:
    """Return what a run's model printed, ascending: lines after a number, or the newest."""
    run_id = services.engine.registry.get(run).id
    lines = services.engine.folder.run_logs.read(run_id, after=after, limit=limit)
    return RunLog(run=run, lines=lines)
