"""A run's plan: the list of segments to train."""

from typing import Final

from omega21.client.api.endpoint import Endpoint, run_path
from omega21.protocol.plan import Plan, PutSegment, Segment, SegmentStored

_MAX_PLAN_REPLY: Final = 12 * 2**20
"""A plan of 130,000 shards, which are 33 million samples."""


class Plans(Endpoint):
    """Calls about plans."""

    async def get(self, run: str) -> Plan:
        """Return a run's plan."""
        return await self._call(Plan, "GET", f"{run_path(run)}/plan", max_bytes=_MAX_PLAN_REPLY)

    async def put_segment(
        self, run: str, number: int, *, run_id: str, segment: Segment
    ) -> SegmentStored:
        """Add segment `number` to the plan or extend its list of shards; return the missing ones.

        On the server's disk when it returns. Raises PlanConflict, OtherRun.
        """
        body = PutSegment(run_id=run_id, segment=segment)
        return await self._call(SegmentStored, "PUT", f"{run_path(run)}/plan/{number}", body=body)
