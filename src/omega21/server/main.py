"""The parent process of a server: holds the socket and the tunnel, and prints the address.

It is small, imports nothing that the worker process alone needs, and keeps that running
(`supervisor`, `worker_process`). Windows cannot pass a socket to a child, so there one process does
both.
"""

import os
import socket
import sys
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from omega21.data.durable import keep_to_user
from omega21.language import _
from omega21.logs import hide
from omega21.protocol.errors import (
    InvalidRequest,
    NotOnThisServer,
    RunFolderConflict,
    ServerFailure,
)
from omega21.server.auth.origins import is_loopback_name
from omega21.server.auth.token import server_token
from omega21.server.options import ServeOptions
from omega21.server.sockets import address, bind
from omega21.server.startup import (
    accepted_line,
    make_data_dir,
    open_standard_files,
    start_errors,
    start_logs,
)
from omega21.server.stopping import stop_on_request
from omega21.server.supervisor import Supervisor, describe
from omega21.server_process import server_command

if TYPE_CHECKING:
    from omega21.server.tunnels.provider import Tunnel
    from omega21.server.tunnels.watch import TunnelWatch


def serve(options: ServeOptions) -> None:
    """Serve until SIGTERM, SIGINT or, if requested, the end of standard input.

    Prints one line on standard output when it listens, and behind a tunnel the command to run on
    the PC; logs go to standard error and to the data folder. Raises InvalidRequest for an address
    that cannot be bound or is open to others without a token, NotOnThisServer without the `server`
    extra, RunFolderConflict or StorageFull for an unusable data folder, TunnelNotSetUp,
    TunnelRefused, TunnelLost, SystemExit with a child's status when it ended before it answered,
    and, without a supervisor, the errors of `start_errors`.
    """
    keep_to_user()
    open_standard_files()
    start_logs(options)
    if find_spec("torch") is None or find_spec("fastapi") is None:
        raise NotOnThisServer(
            _("a server needs torch and fastapi, which are not installed"),
            hint=_("in your copy of the repository: pip install '.[server]'"),
        )
    if options.model is not None:
        options = _with_model(options, options.model)
    tunnel = None
    if options.tunnel != "none":
        tunnel, options = _behind_tunnel(options)
    if not options.token and not is_loopback_name(options.host):
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


def _with_model(options: ServeOptions, model: str) -> ServeOptions:
    """Store the source that the server is to offer, and allow it, as it is now.

    Raises InvalidCode, RunFolderConflict, StorageFull.
    """
    from omega21.data.code.bundle import prepare_code  # noqa: PLC0415 - it imports much
    from omega21.engine.storage.code import CodeStore  # noqa: PLC0415

    bundle = prepare_code(model)
    make_data_dir(options.data_dir)
    with start_errors(options.data_dir):
        store = CodeStore(options.data_dir / "code")
        store.put(bundle.sha256, bundle.body, pinned=frozenset({bundle.sha256}))
    engine = replace(
        options.engine,
        allow_code=options.engine.allow_code.also(bundle.sha256),
        offers=((bundle.entry, bundle.sha256),),
    )
    return replace(options, engine=engine)


def _behind_tunnel(options: ServeOptions) -> "tuple[Tunnel, ServeOptions]":
    """Choose the tunnel; return it with the settings of a server behind it."""
    from omega21.server.tunnels.choosing import choose_tunnel  # noqa: PLC0415

    if not is_loopback_name(options.host):
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
    """Return the token of the data folder. Raises RunFolderConflict when its file has none."""
    try:
        return server_token(data_dir)
    except ValueError as error:
        raise RunFolderConflict(
            str(error), hint=_("remove it; the next start creates another one")
        ) from error


@dataclass
class _Announcement:
    """A server's output on standard output: its address, and the command to copy."""

    sock: socket.socket
    token: str | None
    offers: tuple[tuple[str, str], ...] = ()
    public: str | None = None

    def listening(self) -> None:
        """Print the address and, behind a tunnel, the command to copy."""
        print(f"listening on {address(self.sock)}", flush=True)  # noqa: T201
        for entry, sha256 in self.offers:
            text = _("offering {entry}, source sha256:{sha256}").format(entry=entry, sha256=sha256)
            print(text, flush=True)  # noqa: T201
        if self.public is not None:
            self._line(f"train {self.public}")

    def moved(self, public: str) -> None:
        """Print the command to copy after the tunnel's address has changed."""
        self.public = public
        self._line(f"resume --url {public}")

    def accepted(self, sha256: str) -> None:
        """Print the digest of a source that was accepted."""
        print(accepted_line(sha256), flush=True)  # noqa: T201

    def _line(self, command: str) -> None:
        # The only place that prints the token. It is not an argument of the command, which every
        # user of a machine can read and a shell stores in its history: the command prompts for it.
        print(f"omega21 {command}\ntoken: {self.token}", flush=True)  # noqa: T201


def _supervise(options: ServeOptions, sock: socket.socket, tunnel: "Tunnel | None") -> None:
    said = _Announcement(sock, options.token, options.engine.offers)
    environment = {"OMEGA21_TOKEN": options.token or ""}
    supervisor = Supervisor(
        sock,
        server_command(options.child_arguments()),
        environment,
        on_ready=said.listening,
        on_code=said.accepted,
    )
    with ExitStack() as held:
        watch = _watched(tunnel, said, held)

        def stop() -> None:
            supervisor.stop()
            if watch is not None:
                watch.stop()

        stop_on_request(stop, with_stdin=options.stop_with_stdin)
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
    """Serve in one process, where a socket cannot be passed to a child."""
    from omega21.server.worker_process import serve_here  # noqa: PLC0415 - it imports much

    said = _Announcement(sock, options.token, options.engine.offers)
    with ExitStack() as held:
        watch = _watched(tunnel, said, held)
        if watch is not None:
            said.public = watch.open()
        serve_here(options, sock, on_listening=said.listening)


def _watched(tunnel: "Tunnel | None", said: _Announcement, held: ExitStack) -> "TunnelWatch | None":
    """Create the watch of a tunnel, which closes it with `held`."""
    if tunnel is None:
        return None
    from omega21.server.tunnels.watch import TunnelWatch  # noqa: PLC0415

    port = said.sock.getsockname()[1]
    watch = TunnelWatch(tunnel, port, on_address=said.moved)
    held.callback(watch.close)
    return watch
