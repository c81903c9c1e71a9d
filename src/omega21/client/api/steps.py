"""Results of steps, read by cursor."""

from collections.abc import AsyncGenerator

from omega21.client.api.endpoint import Endpoint, run_path
from omega21.language import _
from omega21.protocol.errors import InvalidReply
from omega21.protocol.history import SeriesReply
from omega21.protocol.steps import MAX_ROWS, StepRecord, StepsReply


class Steps(Endpoint):
    """Calls about the results of steps."""

    async def read(
        self,
        run: str,
        *,
        after: int = 0,
        wait: float = 0.0,
        gather: float = 0.0,
        limit: int = MAX_ROWS,
        vectors: bool = False,
    ) -> StepsReply:
        """Return results after step `after`.

        Waits up to `wait` seconds for the first one, then collects for `gather` seconds.
        """
        query: dict[str, str | int | float] = {
            "after": after,
            "wait": wait,
            "gather": gather,
            "limit": limit,
            "vectors": int(vectors),
        }
        reply = await self._call(StepsReply, "GET", f"{run_path(run)}/steps", query=query)
        _check_order(reply, after=after, limit=limit)
        return reply

    async def series(self, run: str, *, points: int) -> SeriesReply:
        """Return a run's results, aggregated to at most `points` + 1 points, with its vectors."""
        query: dict[str, str | int | float] = {"points": points, "vectors": 1}
        return await self._call(SeriesReply, "GET", f"{run_path(run)}/series", query=query)

    async def history(self, run: str, *, after: int = 0) -> AsyncGenerator[StepRecord, None]:
        """Yield every result that exists now, ascending."""
        while True:
            reply = await self.read(run, after=after)
            for record in reply.steps:
                yield record
            if not reply.steps:
                return
            after = reply.steps[-1].step


def _check_order(reply: StepsReply, *, after: int, limit: int) -> None:
    """Raise InvalidReply unless results come after the cursor, ascending and not too many."""
    steps = [record.step for record in reply.steps]
    if not steps:
        return
    if steps[0] <= after or steps != list(range(steps[0], steps[0] + len(steps))):
        raise InvalidReply(
            _("the results after step {after} are not ascending: they begin with {step}").format(
                after=after, step=steps[0]
            )
        )
    if len(steps) > limit:
        raise InvalidReply(
            _("{found} results came, {limit} were asked for").format(found=len(steps), limit=limit)
        )
