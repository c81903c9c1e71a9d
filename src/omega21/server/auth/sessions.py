"""Session tokens, which a browser's cookie holds instead of the server's token.

A session token is `id.expiry.signature`: 128 random bits, seconds since 1970, and an HMAC-SHA256
over both. The key is derived from the server's token by scrypt, so sessions survive a restart and
end when the token changes. A leaked session token is valid until it expires and does not reveal the
token.
"""

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

MAX_AGE_SECONDS: Final = 24 * 3600
"""Validity of a session token: a day, which is longer than notebooks live."""

_FORM: Final = re.compile(r"([0-9a-f]{32})\.(\d{1,12})\.([0-9a-f]{64})", re.ASCII)
_REVOKED: Final = 1024


@dataclass
class SessionTokens:
    """Issues and checks session tokens. `clock` is in seconds since 1970; for one thread.

    Revoked ones are kept in memory, the newest 1024 of them, until they expire; a restarted server
    has forgotten them.
    """

    token: str = field(repr=False)
    clock: Callable[[], float] = time.time
    _revoked: dict[str, int] = field(default_factory=dict, repr=False)

    def issue(self) -> str:
        """Issue a session token."""
        name, expiry = secrets.token_hex(16), int(self.clock()) + MAX_AGE_SECONDS
        return f"{name}.{expiry}.{self._seal(name, expiry)}"

    def is_ours(self, session_token: str) -> bool:
        """Whether this server's token signed it, valid or not."""
        return self._read(session_token) is not None

    def opens(self, session_token: str) -> bool:
        """Whether it is valid: signed by this server, not expired, not revoked."""
        read = self._read(session_token)
        if read is None:
            return False
        name, expiry = read
        # Not later than a new one: setting the clock back must not extend its validity.
        left = expiry - self.clock()
        return 0 < left <= MAX_AGE_SECONDS and name not in self._revoked

    def revoke(self, session_token: str) -> None:
        """Revoke it; one of another server changes nothing."""
        read = self._read(session_token)
        if read is None:
            return
        now = self.clock()
        self._revoked = {name: end for name, end in self._revoked.items() if end > now}
        while len(self._revoked) >= _REVOKED:
            del self._revoked[next(iter(self._revoked))]
        self._revoked[read[0]] = read[1]

    def _read(self, session_token: str) -> tuple[str, int] | None:
        match = _FORM.fullmatch(session_token)
        if match is None:
            return None
        name, expiry, seal = match[1], int(match[2]), match[3]
        return (name, expiry) if hmac.compare_digest(seal, self._seal(name, expiry)) else None

    def _seal(self, name: str, expiry: int) -> str:
        return hmac.new(self._key, f"{name}.{expiry}".encode(), hashlib.sha256).hexdigest()

    @cached_property
    def _key(self) -> bytes:
        # 16 MB and 50 ms, once: a chosen token cannot be found by trying words on a signature.
        salt = b"omega21 session"
        return hashlib.scrypt(self.token.encode(), salt=salt, n=2**14, r=8, p=1, dklen=32)
