"""Redact secrets, user names and addresses.

A host's name is replaced by a pseudonym that is the same everywhere in one bundle, so that
connections can still be followed.
"""

import getpass
import ipaddress
import os
import platform
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, Self

import httpx

from omega21.client.known_servers import remembered, servers_folder
from omega21.logs import is_secret_name, without_secrets

_HOMES: Final = re.compile(r"(?i)(?:/home/|/Users/|\b[A-Z]:(?:\\+|/)Users(?:\\+|/))[^/\\\s\"':;,]+")
_URL: Final = re.compile(r"(?i)\b(https?://)([^/\s\"'<>?#\\]+)")
_TUNNEL: Final = re.compile(
    r"(?i)\b[\w-]+(?:\.[\w-]+)*\.(?:ngrok(?:-free)?\.(?:app|dev|io|pizza)|trycloudflare\.com)\b"
)
_IP: Final = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w.])")
_SHORTEST_NAME: Final = 3
_SHORTEST_SECRET: Final = 8
_NO_NAMES: Final = frozenset({"root", "user", "localhost", "omega21"})


class Redactor:
    """Replaces secrets by ***, homes by ~, a user's name by USER, and hosts by pseudonyms."""

    def __init__(
        self, *, secrets: Iterable[str] = (), names: Iterable[str] = (), hosts: Iterable[str] = ()
    ) -> None:
        self._secrets = sorted(filter(None, secrets), key=len, reverse=True)
        self._home = str(Path.home())
        usable = (n for n in names if len(n) >= _SHORTEST_NAME and n.lower() not in _NO_NAMES)
        words = "|".join(sorted(map(re.escape, set(usable)), key=len, reverse=True))
        self._names = re.compile(rf"(?i)(?<![A-Za-z0-9])(?:{words})(?![A-Za-z0-9])", re.ASCII)
        self._has_names = bool(words)
        self._stand_ins: dict[str, str] = {}
        self._hosts = [host for host in hosts if host and self._stand_in(host) != host]

    @classmethod
    def of_this_machine(cls, *addresses: str) -> Self:
        """Create a redactor with this user's name and tokens, and the servers used from here."""
        folder = servers_folder()
        servers = remembered(folder) if folder is not None else []
        tokens = [server.token for server in servers if server.token]
        tokens += [
            text
            for name, text in os.environ.items()
            if is_secret_name(name) and len(text) >= _SHORTEST_SECRET
        ]
        used = [*addresses, *(server.address for server in servers)]
        return cls(
            secrets=tokens,
            names=[_user(), Path.home().name],
            hosts=[platform.node(), *(httpx.URL(address).host for address in used)],
        )

    def text(self, text: str) -> str:
        """Redact a text."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        text = without_secrets(text)
        for home in {self._home, self._home.replace("\\", "\\\\")} - {"/"}:
            text = text.replace(home, "~")
        text = _HOMES.sub("~", text)
        text = _URL.sub(lambda found: found[1] + self._authority(found[2]), text)
        text = _TUNNEL.sub(lambda found: self._stand_in(found[0]), text)
        text = _IP.sub(lambda found: self._stand_in(found[0]), text)
        for host in self._hosts:
            word = rf"(?i)(?<![\w.-]){re.escape(host)}(?![\w-])"
            text = re.sub(word, self._stand_in(host), text)
        return self._names.sub("USER", text) if self._has_names else text

    def document(self, value: Any) -> Any:
        """Redact every text of a JSON document, and every value under a secret's name."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {
                self.text(str(key)): "***" if is_secret_name(str(key)) else self.document(each)
                for key, each in value.items()
            }
        if isinstance(value, list | tuple):
            return [self.document(each) for each in value]
        return value

    def _authority(self, authority: str) -> str:
        """Redact the part of a URL between `//` and the path."""
        host, separator, port = authority.rpartition("@")[2].rpartition(":")
        if not separator or not port.isdigit():
            host, separator, port = authority.rpartition("@")[2], "", ""
        return f"{self._stand_in(host)}{separator}{port}"

    def _stand_in(self, host: str) -> str:
        host = host.lower()
        if host == "localhost" or _is_own(host) or host in self._stand_ins.values():
            return host
        return self._stand_ins.setdefault(host, f"server-{len(self._stand_ins) + 1}.invalid")


def _is_own(host: str) -> bool:
    """Whether an address is this machine's own, or a general one such as loopback."""
    try:
        found = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return found.is_loopback or found.is_unspecified


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        return ""
