"""Inference with a run's weights, on shards that the server has."""

from collections.abc import Sequence

from omega21.client.api.endpoint import Endpoint, run_path
from omega21.client.http.transport import Request, Response
from omega21.protocol.inference import MAX_OUTPUT_BYTES, ComputeRequest
from omega21.protocol.steps import EvaluateReply


class Inference(Endpoint):
    """Calls that compute with a run's weights."""

    async def predict(self, run: str, shards: Sequence[str]) -> Response:
        """Return the outputs for at most 8 shards, as a safetensors body."""
        request = Request(
            method="POST",
            path=f"{run_path(run)}/predict",
            headers={"Content-Type": "application/json"},
            body=ComputeRequest(shards=list(shards)).model_dump_json().encode(),
            max_bytes=MAX_OUTPUT_BYTES,
        )
        return await self._transport.send(request)

    async def evaluate(self, run: str, shards: Sequence[str]) -> EvaluateReply:
        """Return scores and loss for at most 8 shards."""
        body = ComputeRequest(shards=list(shards))
        return await self._call(EvaluateReply, "POST", f"{run_path(run)}/evaluate", body=body)
