"""A strict parser of requests: ambiguous framing is refused.

h11 does the parsing. Where RFC 9112 allows a server to accept or refuse, h11 mostly accepts; behind
a proxy that parses the same bytes differently, that allows request smuggling. And h11 limits
incomplete data, not what arrives at once. Each refusal closes the connection.
"""

import re
from dataclasses import dataclass
from typing import Final

import h11

from omega21.language import N_, _
from omega21.protocol.errors import HeadTooLarge, RequestRefused

_END_OF_HEAD: Final = re.compile(rb"\n\r?\n")
_AMBIGUOUS_LINE: Final = re.compile(rb"(?<!\r)\n|\n[ \t]")
_FRAMING: Final = re.compile(rb"\n(?:content-length|transfer-encoding)[ \t]*:[^\n]*", re.IGNORECASE)
_PLAIN_FRAMING: Final = re.compile(
    rb"\n(?:content-length: ?(?:0|[1-9][0-9]{0,15})|transfer-encoding: ?chunked)\r", re.IGNORECASE
)
_CHUNK_LINE: Final = re.compile(rb"[0-9a-f]{1,8}(?:;[ -~]*[!-~])?\r\n", re.IGNORECASE)
_CHUNK_LINE_BEGUN: Final = re.compile(rb"(?:[0-9a-f]{1,8}(?:;[ -~]*)?\r?)?", re.IGNORECASE)
_LAST_CHUNK: Final = re.compile(rb"0+[;\r]")
_LONGEST_CHUNK_LINE: Final = 1024  # including the lines after the last one
_END_OF_CHUNK: Final = b"\r\n"
_SMALL_PIECE: Final = 64
_SMALL_PIECES: Final = 1000
_HINT: Final = N_("the request is not valid HTTP/1.1; use an HTTP library")


@dataclass(frozen=True, kw_only=True)
class HeadLimits:
    """Maximum size of a request line with its headers, and number of headers."""

    size: int = 16 * 1024
    headers: int = 100


class StrictParser(h11.Connection):
    """h11's end of one connection. `next_event` raises RequestRefused and HeadTooLarge."""

    def __init__(self, limits: HeadLimits) -> None:
        super().__init__(h11.SERVER, max_incomplete_event_size=limits.size)
        self._limits = limits
        self._pieces = 0
        self._body_bytes = 0
        self._chunk_line: bytes | None = None  # the bytes before the next chunk's length, if any

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """Return the next event, as h11 does."""
        if self.their_state is h11.IDLE:
            self._check_lines(self.trailing_data[0])
        elif self._chunk_line is not None and self.their_state is h11.SEND_BODY:
            if not self._begins_chunk(self._chunk_line):
                return h11.NEED_DATA
            self._chunk_line = None
        try:
            event = super().next_event()
        except h11.RemoteProtocolError as error:
            if error.error_status_hint == HeadTooLarge.http_status:
                raise self._too_large() from error
            raise RequestRefused(
                _("malformed request: {error}").format(error=str(error)[:180]), hint=_(_HINT)
            ) from error
        if isinstance(event, h11.Request):
            self._check_headers(event)
        elif isinstance(event, h11.Data):
            self._check_piece(len(event.data))
            self._chunk_line = _END_OF_CHUNK if event.chunk_end else None
        return event

    def _check_lines(self, received: bytes) -> None:
        end = _END_OF_HEAD.search(received)
        size = len(received) if end is None else end.end()
        if size > self._limits.size:
            raise self._too_large()
        if end is not None and _AMBIGUOUS_LINE.search(received, 0, size):
            raise RequestRefused(
                _("malformed request: a line that ends without a carriage return, or is folded"),
                hint=_(_HINT),
            )
        framing = _FRAMING.findall(received, 0, size) if end is not None else []
        if len(framing) > 1 or not all(map(_PLAIN_FRAMING.fullmatch, framing)):
            raise RequestRefused(
                _("malformed request: the length of its body is missing, repeated or malformed"),
                hint=_(_HINT),
            )

    def _begins_chunk(self, before: bytes) -> bool:
        is_plain = _is_chunk_plain(before, self.trailing_data[0])
        if is_plain is False:
            raise RequestRefused(
                _("malformed request: a chunk of the body does not start with its length"),
                hint=_(_HINT),
            )
        return is_plain is True

    def _check_headers(self, request: h11.Request) -> None:
        self._pieces = self._body_bytes = 0
        if len(request.headers) > self._limits.headers:
            raise HeadTooLarge(
                _("the request has more than {headers} headers").format(
                    headers=self._limits.headers
                )
            )
        if request.http_version not in {b"1.0", b"1.1"}:
            raise RequestRefused(_("malformed request: another version of HTTP"), hint=_(_HINT))
        names = {name for name, _value in request.headers}
        if b"transfer-encoding" not in names:
            self._chunk_line = None
            return
        self._chunk_line = b""
        if b"content-length" in names or request.http_version < b"1.1":
            raise RequestRefused(_("malformed request: two lengths of its body"), hint=_(_HINT))

    def _check_piece(self, size: int) -> None:
        # Each piece costs some 10 microseconds, whatever its size: a megabyte in chunks of a byte
        # would keep the loop from everybody else for ten seconds.
        self._pieces += 1
        self._body_bytes += size
        if self._pieces > _SMALL_PIECES and self._body_bytes < _SMALL_PIECE * self._pieces:
            raise RequestRefused(
                _("the body has too many small chunks"), hint=_("send larger ones")
            )

    def _too_large(self) -> HeadTooLarge:
        return HeadTooLarge(
            _("the request's address and headers have more than {size} bytes").format(
                size=self._limits.size
            )
        )


def _is_chunk_plain(before: bytes, received: bytes) -> bool | None:
    """Whether a chunk starts correctly; None while that is unknown."""
    if not received.startswith(before):
        return None if before.startswith(received) else False
    rest = received[len(before) : len(before) + _LONGEST_CHUNK_LINE]
    may_go_on = None if len(rest) < _LONGEST_CHUNK_LINE else False
    line, ends, after = rest.partition(b"\n")
    if not ends:
        return may_go_on if _CHUNK_LINE_BEGUN.fullmatch(rest) else False
    if not _CHUNK_LINE.fullmatch(line + ends):
        return False
    if not _LAST_CHUNK.match(line):
        return True
    # The next request may follow directly: this one ends with an empty line.
    trailers, ends, _next = (b"\r\n" + after).partition(b"\r\n\r\n")
    if _AMBIGUOUS_LINE.search(trailers):
        return False
    return True if ends else may_go_on
