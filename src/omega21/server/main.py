"""The server as processes: a parent that holds the socket, and a child that does the work.

The parent is small and keeps a child running (`supervisor`); the child starts the engine and
answers until it is told to stop. Windows cannot hand a socket on, so there one process does both.

Nothing heavy is imported before it is needed, and how long OpenMP's threads spin while they wait is
set before torch is: one that spins on takes a core from the loop that answers requests.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from omega21.data.durable import keep_to_user
from omega21.engine.options import EngineOptions
from omega21.executors.malloc import keep_freed_memory
from omega21.executors.openmp import bound_spinning
from omega21.language import _
from omega21.logs import SERVER_LOG, PlainLines, hide, log_to_file
from omega21.protocol.auth.token import parse_token
from omega21.protocol.errors import (
    InvalidRequest,
    NotOnThisServer,
    RunFolderConflict,
    ServerFailure,
)
from omega21.protocol.link.tunnels import TunnelAsked, TunnelKind
from omega21.server.auth.access import Access, is_loopback_address
from omega21.server.auth.strangers import quiet_strangers
from omega21.server.auth.token import server_token
from omega21.server.startup import (
    make_data_dir,
    open_standard_files,
    start_errors,
)
from omega21.server.supervisor import (
    Supervisor,
    child_command,
    describe,
    die_with_parent,
    start_reporting,
)

if TYPE_CHECKING:
    from omega21.engine.engine import Engine
    from omega21.server.tunnels.provider import Tunnel
    from omega21.server.tunnels.watch import TunnelWatch

logger = logging.getLogger(__name__)

LOG_LEVELS = ("debug", "info", "warning", "error")

_STOP_SECONDS = 8.0  # for the step under way and the replies; the whole takes at most 10
_BACKLOG = 2048


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """Settings of one server. Port 0 chooses a free one.

    Behind a tunnel there is always a token: without `token`, the one kept in the data folder.
    `cloudflared` is the path or the URL of that program, where it is not on PATH.
    """

    data_dir: Path
    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = field(default=None, repr=False)
    engine: EngineOptions = field(default_factory=EngineOptions)
    tunnel: TunnelAsked = "none"
    cloudflared: str | None = None
    log_level: str = "info"
    stop_with_stdin: bool = False

    def __post_init__(self) -> None:
        """Refuse what is no token, whoever made the settings. Raises InvalidRequest."""
        if self.token is not None:
            parse_token(self.token, source="--token (OMEGA21_TOKEN)")

    def child_arguments(self) -> list[str]:
        """Return the command-line options that give a child these settings; never the token."""
        engine = self.engine
        options = {
            "--host": self.host,
            "--data-dir": self.data_dir,
            "--device": engine.device,
            "--precision": engine.precision,
            "--threads": engine.threads,
            "--disk-limit": engine.disk_limit,
            "--max-runs": engine.max_runs,
            "--checkpoint-seconds": engine.checkpoint_seconds,
            "--checkpoint-steps": engine.checkpoint_steps,
            "--mirror": engine.mirror,
            "--tunnel": self.tunnel,
            "--log-level": self.log_level,
        }
        return [str(word) for pair in options.items() if pair[1] is not None for word in pair]


def serve(options: ServeOptions) -> None:
    """Serve until SIGTERM, SIGINT or, where asked for, the end of standard input.

    Prints one line on standard output when it listens, and behind a tunnel another one, which
    trains from elsewhere when it is copied; logs go to standard error and to the data folder.
    Raises InvalidRequest for an address that cannot be bound or is open to others without a token,
    NotOnThisServer without the `server` extra, RunFolderConflict or StorageFull for a data folder
    that cannot be one, TunnelNotSetUp, TunnelRefused, TunnelLost, SystemExit with a child's status
    when it has ended before it answered, having said why, and, without a supervisor, what
    `start_errors` makes of that.
    """
    keep_to_user()
    open_standard_files()
    _start_logs(options)
    if find_spec("torch") is None or find_spec("fastapi") is None:
        raise NotOnThisServer(
            _("a server needs torch and fastapi, which are not installed"),
            hint=_("in your copy of the repository: pip install '.[server]'"),
        )
    tunnel = None
    if options.tunnel != "none":
        tunnel, options = _behind_tunnel(options)
    if not options.token and not is_loopback_address(options.host):
        raise InvalidRequest(
            _("{host} can be reached from other machines, and there is no token").format(
                host=options.host
            ),
            hint=_("give one in OMEGA21_TOKEN or --token-file, or bind to 127.0.0.1"),
        )
    with bind(options.host, options.port) as sock:
        make_data_dir(options.data_dir)
        serve_on = _supervise if os.name == "posix" else _serve_alone
        serve_on(options, sock, tunnel)


def _behind_tunnel(options: ServeOptions) -> "tuple[Tunnel, ServeOptions]":
    """Choose the tunnel; return it with the settings that a server behind it has."""
    from omega21.server.tunnels.choosing import choose_tunnel  # noqa: PLC0415

    if not is_loopback_address(options.host):
        raise InvalidRequest(
            _("behind a tunnel the server listens on loopback only, not on {host}").format(
                host=options.host
            ),
            hint=_("leave --host out, or use --tunnel none"),
        )
    make_data_dir(options.data_dir)
    with start_errors(options.data_dir):
        tunnel = choose_tunnel(
            options.tunnel, cloudflared=options.cloudflared, folder=options.data_dir / "programs"
        )
        assert tunnel is not None
        token = options.token or _kept_token(options.data_dir)
    hide(token)
    return tunnel, replace(options, tunnel=tunnel.kind, token=token)


def _kept_token(data_dir: Path) -> str:
    """Return the token of the data folder. Raises RunFolderConflict where its file holds none."""
    try:
        return server_token(data_dir)
    except ValueError as error:
        raise RunFolderConflict(
            str(error), hint=_("remove it; the next start creates another one")
        ) from error


@dataclass
class _LazyString:
    """What a server says on standard output: where it listens, and the line to be copied."""

    sock: socket.socket
    token: str | None
    public: str | None = None

    def listening(self) -> None:
        """Say where it listens and, behind a tunnel, what to type elsewhere."""
        print(f"listening on {address(self.sock)}", flush=True)  # noqa: T201
        if self.public is not None:
            self._line(f"train {self.public}")

    def moved(self, public: str) -> None:
        """Say what to type elsewhere now that the tunnel has another address."""
        self.public = public
        self._line(f"resume --url {public}")

    def _line(self, command: str) -> None:
        # The only place that shows the token, whole. Not among the command's arguments, which
        # every user of a machine can read and a shell keeps: the command asks for it.
        print(f"omega21 {command}\ntoken: {self.token}", flush=True)  # noqa: T201


def _start_logs(options: ServeOptions) -> None:
    """Log to standard error for people, and as JSON lines to the data folder; never the token.

    The parent and its child do this alike: they share the file.
    """
    hide(options.token)
    shown = logging.StreamHandler(sys.stderr)
    shown.setFormatter(PlainLines())
    # What the command ends on, it says on standard error itself: one line, not two.
    shown.addFilter(lambda record: record.name != "omega21.cli")
    logging.basicConfig(level=options.log_level.upper(), handlers=[shown])
    # It has a line for each request, and the tunnel's watch asks every few seconds.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    log_to_file(options.data_dir / SERVER_LOG, level=options.log_level)
    for handler in logging.getLogger().handlers:
        handler.addFilter(quiet_strangers)


def _supervise(options: ServeOptions, sock: socket.socket, tunnel: "Tunnel | None") -> None:
    said = _LazyString(sock, options.token)
    environment = {"OMEGA21_TOKEN": options.token or ""}
    supervisor = Supervisor(
        sock, child_command(options.child_arguments()), environment, on_ready=said.listening
    )
    with ExitStack() as held:
        watch = _watched(tunnel, said, held)

        def stop() -> None:
            supervisor.stop()
            if watch is not None:
                watch.stop()

        _stop_on_request(stop, with_stdin=options.stop_with_stdin)
        if watch is not None:
            said.public = watch.open()
            if said.public is None:
                return
        status = supervisor.run()
    if status < 0:
        raise ServerFailure(
            _("the server process ended before it answered: {how}").format(how=describe(status)),
            hint=_("its log in {folder} has more").format(folder=options.data_dir / "logs"),
        )
    if status:
        sys.exit(status)


def _serve_alone(options: ServeOptions, sock: socket.socket, tunnel: "Tunnel | None") -> None:
    """Serve where a socket cannot be handed on: one process does both."""
    said = _LazyString(sock, options.token)
    with ExitStack() as held:
        watch = _watched(tunnel, said, held)
        if watch is not None:
            said.public = watch.open()
        _serve_here(options, sock, on_listening=said.listening)


def _watched(tunnel: "Tunnel | None", said: _LazyString, held: ExitStack) -> "TunnelWatch | None":
    """Make the watch of a tunnel, which closes it with `held`."""
    if tunnel is None:
        return None
    from omega21.server.tunnels.watch import TunnelWatch  # noqa: PLC0415

    port = said.sock.getsockname()[1]
    watch = TunnelWatch(tunnel, port, on_address=said.moved)
    held.callback(watch.close)
    return watch


def serve_child(options: ServeOptions, descriptor: int) -> None:
    """Do the work on the listening socket that a supervisor handed on."""
    keep_to_user()
    _start_logs(options)
    die_with_parent()
    with socket.socket(fileno=descriptor) as sock:
        _serve_here(options, sock, report=True)


def _serve_here(
    options: ServeOptions,
    sock: socket.socket,
    *,
    on_listening: Callable[[], None] = lambda: None,
    report: bool = False,
) -> None:
    bound_spinning()
    keep_freed_memory()
    answers = threading.Event()
    with start_errors(options.data_dir, is_over=answers.is_set):
        engine = _engine_class()(options.data_dir, options.engine, fatal=_end_process)
        engine.start()

        def on_answering() -> None:
            answers.set()
            start_reporting(engine) if report else on_listening()

        run_server(
            sock,
            engine,
            Access(token=options.token),
            tunnel=_kind(options),
            stop_with_stdin=options.stop_with_stdin or report,
            on_listening=on_answering,
        )


def _engine_class() -> "type[Engine]":
    try:
        from omega21.engine.engine import Engine  # noqa: PLC0415
    except OSError as error:  # a library of torch's that this system cannot load
        raise ImportError(str(error)) from error
    return Engine


def _kind(options: ServeOptions) -> TunnelKind:
    assert options.tunnel != "auto", "the parent has chosen"
    return options.tunnel


def _end_process(reason: str) -> None:
    """End a process that can compute no more; a supervisor starts another one."""
    logger.critical("this process can compute no more: %s", reason)
    os._exit(1)


def bind(host: str, port: int) -> socket.socket:
    """Make a listening socket. Raises InvalidRequest when the address cannot be had."""
    if not 0 <= port <= 65_535:
        raise InvalidRequest(
            _("{port} is not a port").format(port=port), hint=_("ports are 0 to 65535")
        )
    try:
        # The protocol by its name and not 0, as `socket.create_server` has it: only then does
        # asyncio set TCP_NODELAY, without which each reply waits 40 ms for the client's ACK.
        family, kind, protocol, _name, place = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
        )[0]
    except (OSError, UnicodeError) as error:
        raise InvalidRequest(
            _("{host!r} is not an address of this machine: {error}").format(host=host, error=error)
        ) from error
    sock: socket.socket | None = None
    try:
        sock = socket.socket(family, kind, protocol)
        if os.name == "posix":  # on Windows it would let two servers have one port
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(place)
        sock.listen(_BACKLOG)
    except OSError as error:
        if sock is not None:
            sock.close()
        raise InvalidRequest(
            _("cannot listen on {host}, port {port}: {error}").format(
                host=host, port=port, error=error
            ),
            hint=_("choose another --port; 0 finds a free one"),
        ) from error
    return sock


def address(sock: socket.socket) -> str:
    """Return the URL by which a client on this machine reaches a listening socket.

    0.0.0.0 is every address to a server and none to a client, which sends no token there.
    """
    host, port = sock.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - the other way
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run_server(
    sock: socket.socket,
    engine: "Engine",
    access: Access,
    *,
    tunnel: TunnelKind = "none",
    stop_with_stdin: bool = False,
    on_listening: Callable[[], None] = lambda: None,
) -> None:
    """Answer on `sock`, which may be someone else's, until told to stop; then stop the engine."""
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
        quiet_strangers.tell(at_last=True)
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
    # Together they take half a second: after the address is known to be good, and after torch.
    from omega21.server.app import create_app  # noqa: PLC0415
    from omega21.server.http.listener import Listener  # noqa: PLC0415

    app = create_app(engine, access=access, tunnel=tunnel)
    listener = Listener(app, on_listening=on_listening, stop_seconds=_STOP_SECONDS)
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def request_stop() -> None:
        with suppress(RuntimeError):  # the loop has closed: it has stopped already
            loop.call_soon_threadsafe(stop.set)

    _stop_on_request(request_stop, with_stdin=stop_with_stdin)
    serving = asyncio.create_task(listener.serve(sockets=[sock]))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    logger.info("stopping")
    listener.should_exit = True
    app.state.services.long_polls.close()
    app.state.services.viewers.close()
    # Requests that wait for the engine get their answer by its end, so it goes first.
    await asyncio.to_thread(engine.stop, _STOP_SECONDS)
    await serving
    app.state.services.traffic.write()


def _stop_on_request(request_stop: Callable[[], None], *, with_stdin: bool) -> None:
    """Have `request_stop` called on a signal, or at the end of standard input."""

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        request_stop()

    if threading.current_thread() is threading.main_thread():
        # signal.signal and not the loop's own, which Windows does not have.
        signal.signal(signal.SIGINT, on_signal)
        signal.signal(signal.SIGTERM, on_signal)
    if with_stdin:
        threading.Thread(target=_read_to_end, args=(request_stop,), daemon=True).start()


def _read_to_end(then: Callable[[], None]) -> None:
    # Not sys.stdin: a thread that still holds its lock when the interpreter ends aborts it.
    with suppress(OSError):
        while os.read(0, 4096):
            pass
    then()
