"""The support bundle that `omega21 doctor --bundle` writes, with what the doctor found."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from omega21.cli.options import ServerOptions
from omega21.cli.servers import Server, find_server
from omega21.client.diagnostics.bundle import write_bundle
from omega21.client.sync import Client
from omega21.protocol.errors import InvalidAddress


def bundle(
    path: Path,
    *,
    findings: Mapping[str, Any],
    server: ServerOptions,
    run: str | None,
    workdir: Path | None,
) -> None:
    """Write a bundle, with what there is of a server and a run. Raises OSError."""
    with _opened(server) as client:
        write_bundle(path, client=client, run=run, workdir=workdir, findings=findings)


@contextmanager
def _opened(options: ServerOptions) -> Iterator[Client | None]:
    """Open the server that the doctor looked at; None where there is none to ask."""
    with ExitStack() as held:
        try:
            server = find_server(options)
            client = None if server is None else held.enter_context(_asking_once(server))
        except InvalidAddress:  # the doctor's check of the address says so
            client = None
        yield client


def _asking_once(server: Server) -> Client:
    return Client(
        server.address,
        token=server.token,
        proof_needed=not server.is_token_remembered,
        timeout=server.timeout,
        attempts=1,
        ca=server.ca,
    )
