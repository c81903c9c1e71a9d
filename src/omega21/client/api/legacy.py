"""The seven calls of the earlier system, with their fields."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from omega21.client.api.endpoint import Endpoint, idempotency_key, make_request
from omega21.client.api.shards import SHARD_HEADERS
from omega21.client.http.usage import joined
from omega21.data.samples import Samples, as_samples
from omega21.models.registry import default_config, value_check
from omega21.protocol.legacy import (
    Diagnosis,
    FeedbackDendritas,
    FeedbackReceived,
    Health,
    Info,
    Metrics,
    Status,
    Trained,
)
from omega21.protocol.names import DEFAULT_RUN, checked_name
from omega21.protocol.shards import encode_shard


def inline_samples(given: Any) -> Samples:
    """Convert and check the samples of an inline batch: a pair (x, y) of arrays or lists.

    Raises InvalidSamples, naming the first invalid sample.
    """
    config = default_config()
    tensors = as_samples(given, config.sample_schema, check=value_check(config.task))
    return Samples(np.asarray(tensors["x"], np.float32), np.asarray(tensors["y"], np.float32))


class Legacy(Endpoint):
    """The seven calls."""

    async def health(self) -> Health:
        """Return whether the server is alive."""
        return await self._call(Health, "GET", "/health")

    async def info(self, run: str = DEFAULT_RUN) -> Info:
        """Return the model's architecture, and the server's version and identity."""
        return await self._call(Info, "GET", "/info", query={"run": checked_name(run)})

    async def status(self, run: str = DEFAULT_RUN) -> Status:
        """Return the state and the statistics of a run, and this month's traffic.

        The traffic is the larger of two counts: the server's and this machine's.
        """
        found = await self._call(Status, "GET", "/status", query={"run": checked_name(run)})
        book = self._transport.book
        if found.traffic is None or book is None:
            return found
        traffic = joined(found.traffic, book.month(), host=book.host)
        return found.model_copy(update={"traffic": traffic})

    async def metrics(self, run: str = DEFAULT_RUN) -> Metrics:
        """Return a run's recent losses and their trend."""
        return await self._call(Metrics, "GET", "/metricas", query={"run": checked_name(run)})

    async def diagnose(self, run: str = DEFAULT_RUN) -> Diagnosis:
        """Run the server's self-test on its device; no run is changed."""
        return await self._call(Diagnosis, "POST", "/diagnostico", query={"run": checked_name(run)})

    async def train_batch(
        self, samples: Samples, *, run: str = DEFAULT_RUN, epochs: int = 1, key: str | None = None
    ) -> Trained:
        """Train one batch at the end of a run's plan, and return its result.

        The batch is on the server's disk before it is trained. It is trained once, however often
        the request is sent: `key` identifies it (random by default).
        """
        samples = inline_samples(samples)
        return await self._call(
            Trained,
            "POST",
            "/train_layer2",
            query={"run": checked_name(run), "epochs": epochs},
            headers={**SHARD_HEADERS, **idempotency_key(key)},
            body=encode_shard(samples.tensors),
        )

    async def feedback(
        self,
        adjustments: Sequence[float],
        *,
        validated: bool,
        run: str = DEFAULT_RUN,
        key: str | None = None,
    ) -> FeedbackReceived:
        """Record adjustments of the dendrites: 16 values in [-1, 1], validated or not.

        On the server's disk when it returns; recorded once, however often it is sent.
        """
        body = make_request(
            FeedbackDendritas, ajustes_aplicados=list(adjustments), validacion=validated
        )
        query, headers = {"run": checked_name(run)}, idempotency_key(key)
        path = "/feedback_dendritas"
        return await self._call(
            FeedbackReceived, "POST", path, query=query, headers=headers, body=body
        )
