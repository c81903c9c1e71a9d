"""The check of a task on the server, before its samples are uploaded."""

from omega21.client.api.endpoint import Endpoint
from omega21.protocol.runs import RunConfig
from omega21.protocol.tasks.probe import ProbeReply, ProbeRequest


class Probe(Endpoint):
    """The call that checks a task."""

    async def run(self, config: RunConfig, *, shard: str) -> ProbeReply:
        """Build a run's model on the server and train it on a small shard that the server has.

        No run is made. A check that takes long has no result yet: the same call waits on. Raises
        TaskFailed, ImportFailed, UnknownShard.
        """
        body = ProbeRequest(config=config, shard=shard)
        return await self._call(ProbeReply, "POST", "/probe", body=body)
