"""The server against its own description: whatever is sent, each reply is one that it declares.

schemathesis makes requests from the OpenAPI document, some that fit it and some that do not, and
sends them to a real server process that asks for a token.
"""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from fastapi.routing import APIRoute
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from omega21.protocol.names import DEFAULT_RUN
from omega21.protocol.shards import SHARD_MEDIA_TYPE
from omega21.protocol.tasks.code import CODE_MEDIA_TYPE
from omega21.server.app import ROUTERS
from tests.servers import RunningServer, start_server

TOKEN = "the-token-of-the-schema"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
POSITIVE, NEGATIVE = GenerationMode.POSITIVE, GenerationMode.NEGATIVE
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@schemathesis.serializer(CODE_MEDIA_TYPE, SHARD_MEDIA_TYPE)
def send_as_it_is(_context: schemathesis.SerializationContext, value: object) -> bytes:
    """Bytes where the description says so, and text where schemathesis tries something else."""
    return value if isinstance(value, bytes) else str(value).encode()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("schema") / "data"
    # Few runs: each one that is made holds a model.
    options = ("--device", "cpu", "--threads", "1", "--max-runs", "3")
    with start_server(folder, *options, token=TOKEN) as running:
        yield running
        assert "Traceback" not in running.log


@pytest.fixture(scope="module")
def api(guarded: RunningServer) -> schemathesis.BaseSchema:
    document = httpx.get(f"{guarded.address}/openapi.json", headers=HEADERS, timeout=60).json()
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=guarded.address)
    return schema


CALLS = sorted(
    (route.path, method)
    for router in ROUTERS
    for route in router.routes
    if isinstance(route, APIRoute)
    for method in route.methods or ()
)


@pytest.mark.parametrize(("path", "method"), CALLS, ids=[" ".join(call) for call in CALLS])
def test_every_reply_is_one_that_is_described(
    api: schemathesis.BaseSchema, path: str, method: str
) -> None:
    operation = api[path][method]

    @settings(
        max_examples=20,
        deadline=None,
        derandomize=True,  # the gate tries the same ones each time
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(POSITIVE) | operation.as_strategy(NEGATIVE), st.booleans())
    def check(case: schemathesis.Case[Any], is_there: bool) -> None:
        if is_there and "run" in case.path_parameters:
            case.path_parameters["run"] = DEFAULT_RUN
        for name in ("wait", "gather"):  # a long poll of 25 s would be right, and long
            case.query.pop(name, None)
        case.call_and_validate(checks=CHECKS, headers=HEADERS, timeout=60)

    check()
