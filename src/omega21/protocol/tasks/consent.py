"""Which source the owner of a server allows."""

import re
from typing import Final, Self

from omega21.language import _
from omega21.protocol.errors import InvalidCode
from omega21.protocol.messages import Request
from omega21.protocol.names import Sha256
from omega21.protocol.printable import printable

ANY_CODE: Final = "any"
"""The consent to any source, in place of digests."""

_DIGEST_PREFIX: Final = "sha256:"


class Consent(Request):
    """Which source the owner of a server allows: any, or that of some digests."""

    any: bool = False
    digests: frozenset[Sha256] = frozenset()

    @classmethod
    def of(cls, texts: list[str], *, source: str) -> Self:
        """Read `any` or `sha256:DIGEST`, several separated by commas. Raises InvalidCode."""
        digests = set()
        is_any = False
        for text in (part.strip() for given in texts for part in given.split(",")):
            digest = text.removeprefix(_DIGEST_PREFIX)
            if text.lower() in {ANY_CODE, "1", "true", "yes", "on"}:
                is_any = True
            elif re.fullmatch(r"[0-9a-f]{64}", digest):
                digests.add(digest)
            elif text.lower() not in {"", "0", "false", "no", "off"}:
                raise InvalidCode(
                    _("{source}: {text!r} is neither {any} nor sha256:DIGEST").format(
                        source=source, text=printable(text, most=80), any=ANY_CODE
                    ),
                    hint=_("give 64 hexadecimal digits, or no digest to allow any source"),
                )
        return cls(any=is_any, digests=frozenset(digests))

    def allows(self, sha256: str) -> bool:
        """Whether the source with this digest may be stored and executed."""
        return self.any or sha256 in self.digests

    def also(self, *digests: str) -> Self:
        """Return the consent to these digests too."""
        return self.model_copy(update={"digests": self.digests | set(digests)})

    def texts(self) -> list[str]:
        """Return it as `of` reads it."""
        return [ANY_CODE] * self.any + [f"{_DIGEST_PREFIX}{one}" for one in sorted(self.digests)]


NO_CODE: Final = Consent()
"""The consent to no source."""
