"""The web application: the routes, behind the middleware that all requests pass.

From the outside in: the caller's language; traffic counts; security headers; request ids and the
last exception handler; the rest of a refused body; access control; the limit on bodies in memory;
compression; then the route.
"""

from importlib.metadata import version
from threading import Lock
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic.json_schema import models_json_schema
from starlette.middleware.gzip import DEFAULT_EXCLUDED_CONTENT_TYPES, GZipMiddleware

from omega21.engine.engine import Engine
from omega21.executors.memory import MemoryHistory
from omega21.protocol.auth.proof import ProveToken
from omega21.protocol.auth.session import LogIn
from omega21.protocol.errors import Problem
from omega21.protocol.legacy import TrainLayer2
from omega21.protocol.link.probe import LINK_MEDIA_TYPE
from omega21.protocol.link.tunnels import TunnelKind
from omega21.protocol.shards import SHARD_MEDIA_TYPE
from omega21.protocol.tasks.code import CODE_MEDIA_TYPE
from omega21.server.auth.access import Access, AccessControl
from omega21.server.http import errors
from omega21.server.http.bodies import BodyRoom, Lingering
from omega21.server.http.headers import SecurityHeaders
from omega21.server.http.language import RequestLanguage
from omega21.server.http.long_poll import LongPolls
from omega21.server.http.usage import TrafficCount, TrafficMeter
from omega21.server.openapi.page import STYLE, render_page
from omega21.server.routes import (
    checkpoints,
    code,
    dashboard,
    evaluations,
    history,
    inference,
    legacy,
    link,
    logs,
    plan,
    probe,
    prometheus,
    proof,
    runs,
    session,
    shards,
    steps,
)
from omega21.server.services import Services

ROUTERS: tuple[APIRouter, ...] = (
    legacy.router,
    runs.router,
    plan.router,
    shards.router,
    code.router,
    steps.router,
    inference.router,
    probe.router,
    checkpoints.router,
    logs.router,
    session.router,
    proof.router,
    evaluations.router,
    history.router,
    link.router,
)

_GZIP_FROM = 500  # bytes: a smaller reply saves less than the header costs
_GZIP_LEVEL = 4  # 1000 rows of results: 30 % of their size in 3 ms; level 9: 28 % in 20 ms


def create_app(engine: Engine, *, access: Access, tunnel: TunnelKind = "none") -> FastAPI:
    """Create the application for `engine`, which the caller starts and stops."""
    long_polls, viewers = LongPolls(engine.runs.summary), LongPolls(engine.history.position)
    memory = MemoryHistory(engine.device.memory_mb, engine.device.process_bytes)
    for notify in (long_polls.notify, viewers.notify, memory.look):
        engine.registry.subscribe(notify)
    app = Application(
        title="omega21",
        version=version("omega21"),
        summary="Train on a remote, disposable GPU; the caller owns the run.",
        openapi_url=None,  # FastAPI's own pages use a CDN; ours are below
        generate_unique_id_function=lambda route: route.name,
        redirect_slashes=False,
    )
    traffic = TrafficMeter(engine.folder.path, tunnel=tunnel)
    app.state.services = Services(
        engine=engine,
        long_polls=long_polls,
        viewers=viewers,
        memory=memory,
        traffic=traffic,
        tunnel=tunnel,
    )
    app.state.access = access
    errors.install(app)
    for router in ROUTERS:
        app.include_router(router)
    app.include_router(_docs)
    app.include_router(dashboard.router)
    app.include_router(prometheus.router)
    app.add_middleware(
        GZipMiddleware,
        minimum_size=_GZIP_FROM,
        compresslevel=_GZIP_LEVEL,
        exclude_content_types=(
            *DEFAULT_EXCLUDED_CONTENT_TYPES,
            SHARD_MEDIA_TYPE,
            CODE_MEDIA_TYPE,
            LINK_MEDIA_TYPE,
        ),
    )
    app.add_middleware(BodyRoom)
    app.add_middleware(AccessControl, access=access)
    app.add_middleware(Lingering)
    app.add_middleware(errors.LastHandler)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(TrafficCount, meter=traffic)
    app.add_middleware(RequestLanguage)
    return app


class Application(FastAPI):
    """FastAPI, with an OpenAPI document that includes the messages that routes parse themselves."""

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document, created at the first call."""
        with _describing:
            if self.openapi_schema is None:
                document = super().openapi()
                _, extra = models_json_schema(
                    [
                        (TrainLayer2, "validation"),
                        (LogIn, "validation"),
                        (ProveToken, "validation"),
                        (Problem, "serialization"),
                    ],
                    ref_template="#/components/schemas/{model}",
                )
                document["components"]["schemas"] |= extra["$defs"]
            return super().openapi()


_describing = Lock()  # creating it takes a quarter of a second, in the first thread that calls this
_docs = APIRouter(include_in_schema=False)


@_docs.get("/openapi.json")
def openapi(request: Request) -> JSONResponse:
    """Return the OpenAPI document."""
    return JSONResponse(request.app.openapi())


@_docs.get("/docs")
def docs(request: Request) -> HTMLResponse:
    """Show the OpenAPI document as a page without external resources."""
    return HTMLResponse(render_page(request.app.openapi()))


@_docs.get("/docs/style.css")
def docs_style() -> Response:
    """Return the page's style sheet.

    A separate file, so that the content policy can forbid inline styles.
    """
    return Response(STYLE, media_type="text/css")
