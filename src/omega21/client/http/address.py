"""The address of a server: its normal form, and whether it is on this machine."""

import ipaddress
import os
from typing import Final

import httpx

from omega21.language import _
from omega21.protocol.errors import InvalidAddress

ALLOW_HTTP: Final = "OMEGA21_ALLOW_HTTP"
"""The environment variable that allows sending a token without encryption."""


class FoundAddress(str):
    """An address from a run's folder, not given in this command."""

    __slots__ = ()


def parse_address(text: str) -> str:
    """Return the address in its normal form: scheme, host, port and path, without a final slash.

    Raises InvalidAddress for another scheme, a missing host, a user name, a query or a fragment.
    """
    given = text.strip()
    try:
        url = httpx.URL(given)
        host = url.host
    except (httpx.InvalidURL, ValueError) as error:
        raise InvalidAddress(
            _("{given} is not an address: {error}").format(given=_shown(given), error=error)
        ) from error
    if url.scheme not in ("http", "https"):
        raise InvalidAddress(
            _("{given} does not begin with https:// or http://").format(given=_shown(given))
        )
    if not host or " " in given:
        raise InvalidAddress(_("{given} names no host").format(given=_shown(given)))
    if url.userinfo:
        raise InvalidAddress(
            _("the address contains a user name or a token"),
            hint=_("pass the token in OMEGA21_TOKEN or --token-file: addresses end up in logs"),
        )
    if (url.port or 0) > 65_535:
        raise InvalidAddress(_("{given} has a port beyond 65535").format(given=_shown(given)))
    if url.query or url.fragment:
        raise InvalidAddress(_("{given} has a query or a fragment").format(given=_shown(given)))
    return str(url).rstrip("/")


def is_loopback(address: str) -> bool:
    """Whether a parsed address is on this machine."""
    host = httpx.URL(address).host
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_encrypted(address: str, token: str | None) -> None:
    """Refuse to send a token unencrypted to a parsed address that is not on this machine.

    The environment variable OMEGA21_ALLOW_HTTP allows it, on one's own network. Raises
    InvalidAddress.
    """
    if not token or address.startswith("https:") or is_loopback(address):
        return
    if os.environ.get(ALLOW_HTTP):
        return
    raise InvalidAddress(
        _("{address} is not encrypted: everyone on the network path could read the token").format(
            address=address
        ),
        hint=_(
            "give its https:// address, or use `ssh -L`; on your own network {variable}=1 allows it"
        ).format(variable=ALLOW_HTTP),
    )


def _shown(text: str) -> str:
    """Return the text for display: truncated, and without a possible password."""
    return repr("…@" + text.rsplit("@", 1)[1] if "@" in text else text[:200])
