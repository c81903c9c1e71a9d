"""Evaluations of a run, recorded on the server for the dashboard and other clients."""

from itertools import pairwise

from omega21.client.api.endpoint import Endpoint, make_request, run_path
from omega21.language import _
from omega21.protocol.errors import InvalidReply
from omega21.protocol.evaluations import (
    Evaluation,
    EvaluationRow,
    EvaluationsReply,
    RecordEvaluation,
)


class Evaluations(Endpoint):
    """Calls about evaluations."""

    async def record(self, run: str, evaluation: Evaluation, *, run_id: str) -> EvaluationRow:
        """Record an evaluation of a run.

        On the server's disk when it returns; repeating it changes nothing. Raises OtherRun.
        """
        body = make_request(RecordEvaluation, run_id=run_id, **evaluation.model_dump())
        return await self._call(EvaluationRow, "POST", f"{run_path(run)}/evaluations", body=body)

    async def read(self, run: str, *, after: int = 0) -> tuple[EvaluationRow, ...]:
        """Return the evaluations recorded of a run after number `after`, at most 1000."""
        path = f"{run_path(run)}/evaluations"
        rows = (await self._call(EvaluationsReply, "GET", path, query={"after": after})).evaluations
        numbers = [after, *(row.number for row in rows)]
        if any(later <= earlier for earlier, later in pairwise(numbers)):
            raise InvalidReply(
                _("the evaluations after number {after} are not ascending").format(after=after)
            )
        return tuple(rows)
