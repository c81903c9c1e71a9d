"""A real reverse proxy: nginx with TLS before a port on loopback, made to behave as a test says.

    with start_nginx(tmp_path / "nginx", server.port) as proxy:
        Client(proxy.address, ca=proxy.ca, …)

`locations` are lines of nginx's own language inside its `server` block, before the `location /`
that passes everything on; `restart(locations=…)` makes it behave otherwise, on the same port.
"""

import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.programs import require_program

_CONFIGURATION = """\
daemon off;
worker_processes 1;
{user}
pid nginx.pid;
events {{ worker_connections 512; }}
http {{
    access_log access.log;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    client_max_body_size 100m;  # where tunnels cut bodies
    server {{
        listen 127.0.0.1:{port}{tls};
        server_name localhost;
        default_type text/plain;
{certificate}
{locations}
        location / {{
            proxy_pass http://127.0.0.1:{backend};
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_request_buffering off;
            proxy_buffering off;
        }}
    }}
}}
"""


@dataclass(frozen=True)
class Authority:
    """A certificate authority of the test's own, and a server's certificate that it signed."""

    ca: Path
    certificate: Path
    key: Path


def make_authority(folder: Path, *, names: str = "DNS:localhost,IP:127.0.0.1") -> Authority:
    """Make an authority and a certificate for `names` in `folder`."""
    openssl = require_program("openssl")
    folder.mkdir(parents=True, exist_ok=True)

    def run(*arguments: str) -> None:
        subprocess.run([openssl, *arguments], check=True, cwd=folder, capture_output=True)

    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc"]
    run("req", "-x509", *curve, "-days", "2", "-subj", "/CN=omega21 test CA", "-keyout", "ca.key",
        "-out", "ca.pem", "-addext", "basicConstraints=critical,CA:TRUE",
        "-addext", "keyUsage=critical,keyCertSign")  # fmt: skip
    run("req", *curve, "-subj", "/CN=localhost", "-keyout", "server.key", "-out", "server.csr")
    (folder / "names").write_text(f"subjectAltName={names}\n", encoding="ascii")
    run("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", "2",
        "-CAcreateserial", "-extfile", "names", "-out", "server.pem")  # fmt: skip
    return Authority(folder / "ca.pem", folder / "server.pem", folder / "server.key")


class Nginx:
    """An nginx process that answers at `address`; with TLS, its certificate is signed by `ca`.

    Leaving its `with` block ends it and prints its logs, which pytest shows when the test fails.
    """

    def __init__(
        self, folder: Path, backend: int, *, locations: str, authority: Authority | None
    ) -> None:
        self.folder = folder
        self.backend = backend
        self.port = 0
        self._locations = locations
        self._authority = authority
        folder.mkdir(parents=True, exist_ok=True)
        self._start()

    @property
    def address(self) -> str:
        """Where it answers."""
        scheme = "http" if self._authority is None else "https"
        return f"{scheme}://localhost:{self.port}"

    @property
    def ca(self) -> Path:
        """The authority to trust."""
        assert self._authority is not None, "this proxy has no TLS"
        return self._authority.ca

    @property
    def log(self) -> str:
        """The requests that it had, one a line, and its complaints."""
        paths = [self.folder / "access.log", self.folder / "error.log"]
        return "".join(path.read_text(encoding="utf-8") for path in paths if path.exists())

    def stop(self) -> None:
        """End it: connections are refused from now on."""
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(timeout=60)

    def restart(self, *, locations: str | None = None, backend: int | None = None) -> None:
        """Start it again on the same port, behaving otherwise or in front of another server."""
        self.stop()
        self._locations = self._locations if locations is None else locations
        self.backend = backend or self.backend
        self._start()

    def _start(self) -> None:
        certificate = ""
        if self._authority is not None:
            certificate = (
                f"        ssl_certificate {self._authority.certificate};\n"
                f"        ssl_certificate_key {self._authority.key};"
            )
        # It takes over a socket that listens already: no port to guess, no start to wait for.
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", self.port))
            listener.listen(512)
            self.port = listener.getsockname()[1]
            (self.folder / "nginx.conf").write_text(
                _CONFIGURATION.format(
                    user="user root;" if os.geteuid() == 0 else "",  # else it would be nobody
                    port=self.port,
                    tls="" if self._authority is None else " ssl http2",
                    certificate=certificate,
                    locations=self._locations,
                    backend=self.backend,
                ),
                encoding="utf-8",
            )
            program = require_program("nginx")
            self.process = subprocess.Popen(
                [program, "-p", self.folder, "-e", "error.log", "-c", "nginx.conf"],
                stdin=subprocess.DEVNULL,
                pass_fds=[listener.fileno()],
                env={**os.environ, "NGINX": f"{listener.fileno()};"},
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        sys.stderr.write(f"--- log of nginx at {self.address}\n{self.log}")


def start_nginx(
    folder: Path, backend: int, *, locations: str = "", authority: Authority | None = None,
    tls: bool = True,
) -> Nginx:  # fmt: skip
    """Start nginx in `folder`, in front of 127.0.0.1:`backend`.

    With TLS by `authority`, or by one made here; without `tls`, plain. Use it in a `with` block.
    """
    if tls and authority is None:
        authority = make_authority(folder / "tls")
    return Nginx(folder, backend, locations=locations, authority=authority if tls else None)
