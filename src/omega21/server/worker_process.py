"""The worker process: the engine and its HTTP server.

Heavy packages are imported only when needed; torch is in the processes that compute.
"""

import asyncio
import ctypes
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

from omega21.data.durable import keep_to_user
from omega21.protocol.link.tunnels import TunnelKind
from omega21.server.auth.access import Access
from omega21.server.http.unauthenticated import unauthenticated_log_filter
from omega21.server.options import ServeOptions
from omega21.server.startup import CODE_WORD, accepted_line, start_errors, start_logs
from omega21.server.stopping import stop_on_request

if TYPE_CHECKING:
    from omega21.engine.engine import Engine

HEARTBEAT_SECONDS: Final = 5.0

_STOP_SECONDS: Final = 8.0  # for the current step and the replies; the whole stop takes at most 10
_PR_SET_PDEATHSIG: Final = 1

logger = logging.getLogger(__name__)


def serve_child(options: ServeOptions, descriptor: int) -> None:
    """Serve on the supervisor's listening socket."""
    keep_to_user()
    start_logs(options)
    _end_with_parent()
    with socket.socket(fileno=descriptor) as sock:
        serve_here(options, sock, report=True)


def serve_here(
    options: ServeOptions,
    sock: socket.socket,
    *,
    on_listening: Callable[[], None] = lambda: None,
    report: bool = False,
) -> None:
    """Start the engine and serve on `sock`; with `report`, report to the supervisor.

    Raises the errors of `start_errors`.
    """
    from omega21.engine.engine import Engine  # noqa: PLC0415 - numpy and SQLite's part of a second

    started = threading.Event()
    failures: list[Exception] = []
    with start_errors(options.data_dir, is_over=started.is_set):
        engine = Engine(
            options.data_dir,
            options.engine,
            fatal=lambda reason: _end_process(reason) if started.is_set() else None,
            accepted=partial(_report_code, report=report),
        )
        engine.start()

        def tell() -> None:
            _start_reporting(engine) if report else on_listening()

        def on_answering() -> None:
            """Wait for the device beside the loop, which answers meanwhile."""
            loop = asyncio.get_running_loop()

            def check() -> None:
                try:
                    engine.device.check()
                except Exception as error:  # noqa: BLE001 - raised below, when the server has ended
                    failures.append(error)
                    os.kill(os.getpid(), signal.SIGTERM)
                else:
                    started.set()
                    with suppress(RuntimeError):  # the server was stopped meanwhile
                        loop.call_soon_threadsafe(tell)

            threading.Thread(target=check, daemon=True).start()

        run_server(
            sock,
            engine,
            Access(token=options.token),
            tunnel=_kind(options),
            stop_with_stdin=options.stop_with_stdin or report,
            on_listening=on_answering,
        )
        if failures:
            raise failures[0]


def _kind(options: ServeOptions) -> TunnelKind:
    assert options.tunnel != "auto", "the parent has chosen"
    return options.tunnel


def _report_code(sha256: str, *, report: bool) -> None:
    """Tell the owner which source was accepted, through the parent where there is one."""
    if report:
        _report(f"{CODE_WORD}{sha256}")
    else:
        print(accepted_line(sha256), flush=True)  # noqa: T201


def _end_process(reason: str) -> None:
    """End a process that cannot compute any more; the supervisor starts another one."""
    logger.critical("this process can compute no more: %s", reason)
    os._exit(1)


def run_server(
    sock: socket.socket,
    engine: "Engine",
    access: Access,
    *,
    tunnel: TunnelKind = "none",
    stop_with_stdin: bool = False,
    on_listening: Callable[[], None] = lambda: None,
) -> None:
    """Serve on `sock`, which may be another process's, until stopped; then stop the engine."""
    try:
        asyncio.run(
            _serve(
                sock,
                engine,
                access,
                tunnel=tunnel,
                stop_with_stdin=stop_with_stdin,
                on_listening=on_listening,
            )
        )
    finally:
        if engine.stop(_STOP_SECONDS):
            engine.close()
        unauthenticated_log_filter.tell(at_last=True)
        logger.info("stopped")


async def _serve(
    sock: socket.socket,
    engine: "Engine",
    access: Access,
    *,
    tunnel: TunnelKind,
    stop_with_stdin: bool,
    on_listening: Callable[[], None],
) -> None:
    # These imports take half a second: after the address is known to be valid.
    from omega21.server.app import create_app  # noqa: PLC0415
    from omega21.server.http.listener import Listener  # noqa: PLC0415

    app = create_app(engine, access=access, tunnel=tunnel)
    listener = Listener(app, on_listening=on_listening, stop_seconds=_STOP_SECONDS)
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def request_stop() -> None:
        with suppress(RuntimeError):  # the loop has closed: the server has already stopped
            loop.call_soon_threadsafe(stop.set)

    stop_on_request(request_stop, with_stdin=stop_with_stdin)
    serving = asyncio.create_task(listener.serve(sockets=[sock]))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    logger.info("stopping")
    listener.should_exit = True
    app.state.services.long_polls.close()
    app.state.services.viewers.close()
    # Requests that wait for the engine are answered when it stops, so it stops first.
    await asyncio.to_thread(engine.stop, _STOP_SECONDS)
    await serving
    app.state.services.traffic.write()


def _start_reporting(engine: "Engine") -> None:
    """Report to the parent that this child answers, and then its steps and heartbeats."""
    _report("ready")
    loop = asyncio.get_running_loop()

    def beat() -> None:
        _report("alive")
        loop.call_later(HEARTBEAT_SECONDS, beat)

    def on_change(_run: str, _step: int | None = None) -> None:
        if engine.worker.steps_done:
            unsubscribe()
            _report("step")

    unsubscribe = engine.registry.subscribe(on_change)
    beat()


def _report(word: str) -> None:
    with suppress(OSError):  # the parent is gone, and this child is about to end
        os.write(1, f"{word}\n".encode())


def _end_with_parent() -> None:
    """On Linux, end this process at once when its parent is killed.

    The end of standard input stops it too, on every platform, but after the current step; until
    then this process would hold the address and the data folder.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
