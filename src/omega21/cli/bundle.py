"""The support bundle of `omega21 doctor --bundle`, with the results of its checks."""

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
    """Write a bundle about a server and a run, where these are known. Raises OSError."""
    with _opened(server) as client:
        write_bundle(path, client=client, run=run, workdir=workdir, findings=findings)


@contextmanager
def _opened(options: ServerOptions) -> Iterator[Client | None]:
    """Open the server that the doctor checked; None where there is none."""
    with ExitStack() as held:
        try:
            server = find_server(options)
            client = None if server is None else held.enter_context(_client_without_retries(server))
        except InvalidAddress:  # the doctor's check of the address says so
            client = None
        yield client


def _client_without_retries(server: Server) -> Client:
    return Client(
        server.address,
        token=server.token,
        proof_needed=not server.is_token_remembered,
        timeout=server.timeout,
        attempts=1,
        ca=server.ca,
    )
