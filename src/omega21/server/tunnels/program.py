"""The program cloudflared: from PATH, a path, or a URL with its SHA-256.

A downloaded program is executed only if its content matches the digest, which is checked at each
start, not only after the download.
"""

import hashlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import httpx

from omega21.data.durable import write_durably
from omega21.language import _
from omega21.protocol.errors import TunnelLost, TunnelNotSetUp
from omega21.server.tunnels.outside import outside_client

NAME: Final = "cloudflared"
_MAX_BYTES: Final = 200 * 2**20  # a release has about 40 MB
_URL = re.compile(r"(https?://[^#]+)#sha256=([0-9a-fA-F]{64})")


def find_program(given: str | None, *, folder: Path) -> Path | None:
    """Return the program, downloaded into `folder` if a URL is given; None if there is none.

    `given` is a path or `URL#sha256=…`; without it, PATH is searched. Raises TunnelNotSetUp for
    a path without a program, a URL without a digest, or content that does not match the digest;
    TunnelLost when the download fails.
    """
    if not given:
        found = shutil.which(NAME)
        return None if found is None else Path(found).absolute()
    if "://" in given:
        return _download(given, folder)
    path = shutil.which(given)
    if path is None:
        raise TunnelNotSetUp(
            _("there is no program at {path}").format(path=given),
            hint=_("give the path of cloudflared, which must be executable"),
        )
    return Path(path).absolute()


def _download(given: str, folder: Path) -> Path:
    found = _URL.fullmatch(given)
    if found is None:
        raise TunnelNotSetUp(
            _("{url} has no SHA-256").format(url=given),
            hint=_("write it as URL#sha256=DIGEST, with the digest that the release's page shows"),
        )
    url, sha256 = found[1], found[2].lower()
    path = folder / f"{NAME}-{sha256[:16]}"
    if path.exists() and _digest(path) == sha256:
        return path
    folder.mkdir(parents=True, exist_ok=True)
    try:
        write_durably(path, _checked(url, sha256))
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise TunnelLost(
            _("{url} was not downloaded: {reason}").format(url=url, reason=error)
        ) from error
    path.chmod(0o700)
    return path


def _checked(url: str, sha256: str) -> Iterator[bytes]:
    """Yield the content of `url`; raises at its end unless it matches the digest."""
    hasher, size = hashlib.sha256(), 0
    with (
        outside_client(seconds=60, follow_redirects=True) as http,
        http.stream("GET", url) as reply,
    ):
        if not reply.is_success:
            raise TunnelLost(
                _("{url} was not downloaded: {reason}").format(
                    url=url, reason=f"HTTP {reply.status_code}"
                ),
                hint=_("check the URL"),
            )
        for chunk in reply.iter_bytes():
            hasher.update(chunk)
            size += len(chunk)
            if size > _MAX_BYTES:
                raise TunnelNotSetUp(_("{url} is too large for a program").format(url=url))
            yield chunk
    if hasher.hexdigest() != sha256:
        raise TunnelNotSetUp(
            _("{url} has SHA-256 {got}, not {wanted}: it is not executed").format(
                url=url, got=hasher.hexdigest(), wanted=sha256
            ),
            hint=_("compare the digest with the one on the release's page"),
        )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
