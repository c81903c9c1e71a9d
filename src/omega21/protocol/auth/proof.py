"""A server's proof that it knows the token, before it is sent: SPAKE2 (RFC 9382), one exchange.

Each side sends a random share that is masked by the token. An eavesdropper or a caller with a guess
learns nothing that allows guessing offline: one request tests one guess, as a request with a wrong
token does. A plain HMAC keyed by the token would allow it, which matters for tokens that people
choose.

The group is that of RFC 3526 (number 14, 2048 bits), its elements are squares. An incoming share is
not checked for that: the key is derived from its square (the cofactor), which must not be 1.
"""

import hashlib
import hmac
import secrets
from typing import Final

from pydantic import Field

from omega21.protocol.messages import Reply, Request

PROOF_PATH: Final = "/proof"

_BYTES: Final = 256
_PRIME: Final = int(
    "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74"
    "020BBEA63B139B22514A08798E3404DDEF9519B3CD3A431B302B0A6DF25F1437"
    "4FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED"
    "EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE45B3DC2007CB8A163BF05"
    "98DA48361C55D39A69163FA8FD24CF5F83655D23DCA3AD961C62F356208552BB"
    "9ED529077096966D670C354E4ABC9804F1746C08CA18217C32905E462E36CE3B"
    "E39E772C180E86039B2783A2EC07A28FB5C55DF06F4C52C9DE2BCBF695581718"
    "3995497CEA956AE515D2261898FA051015728E5A8AACAA68FFFFFFFFFFFFFFFF",
    16,
)
_GENERATOR: Final = 2
_RANDOM_BITS: Final = 256  # twice the strength of the group


class ProveToken(Request):
    """The caller's share of the exchange."""

    share: str = Field(pattern=r"^[0-9a-f]{512}$", description="a number of 2048 bits")


class TokenProof(Reply):
    """The server's share and its proof; both absent if it has no token."""

    token_needed: bool = Field(description="false on a server without a token")
    share: str | None = Field(default=None, description="a number of 2048 bits")
    proof: str | None = Field(default=None, description="HMAC-SHA256, in hexadecimal digits")


class Challenge:
    """The caller's side of one exchange: sends `share` and checks the reply."""

    def __init__(self, token: str) -> None:
        self._secret = _secret(token)
        self._random = secrets.randbits(_RANDOM_BITS)
        masked = pow(_GENERATOR, self._random, _PRIME) * pow(_OF_CALLER, self._secret, _PRIME)
        self._share = masked % _PRIME

    @property
    def request(self) -> ProveToken:
        """The request to send."""
        return ProveToken(share=_hexadecimal(self._share))

    def accepts(self, answer: TokenProof) -> bool:
        """Whether the reply proves knowledge of the token."""
        theirs = _share(answer.share or "")
        if theirs is None or answer.proof is None:
            return False
        key = _key(theirs, mask=_OF_SERVER, secret=self._secret, random=self._random)
        expected = _proof(self._secret, key, caller=self._share, server=theirs)
        return key != 1 and hmac.compare_digest(expected.encode(), answer.proof.encode())


class Prover:
    """The server's side: answers any number of challenges."""

    def __init__(self, token: str) -> None:
        self._secret = _secret(token)
        self._mask = pow(_OF_SERVER, self._secret, _PRIME)

    def answer(self, request: ProveToken) -> TokenProof | None:
        """Return the proof that this side knows the token; None for an invalid share."""
        theirs = _share(request.share)
        if theirs is None:
            return None
        random = secrets.randbits(_RANDOM_BITS)
        ours = pow(_GENERATOR, random, _PRIME) * self._mask % _PRIME
        key = _key(theirs, mask=_OF_CALLER, secret=self._secret, random=random)
        if key == 1:
            return None
        proof = _proof(self._secret, key, caller=theirs, server=ours)
        return TokenProof(token_needed=True, share=_hexadecimal(ours), proof=proof)


def _secret(token: str) -> int:
    return int.from_bytes(hashlib.sha256(b"omega21 token proof 1\0" + token.encode()).digest())


def _element(name: bytes) -> int:
    """Return a square whose discrete logarithm is unknown."""
    return pow(int.from_bytes(hashlib.shake_256(name).digest(_BYTES)) % _PRIME, 2, _PRIME)


_OF_CALLER: Final = _element(b"omega21 token proof 1: caller")
_OF_SERVER: Final = _element(b"omega21 token proof 1: server")


def _share(digits: str) -> int | None:
    try:
        number = int(digits, 16)
    except ValueError:
        return None
    return number if 1 < number < _PRIME - 1 else None


def _key(theirs: int, *, mask: int, secret: int, random: int) -> int:
    unmasked = theirs * pow(mask, -secret, _PRIME) % _PRIME
    return pow(unmasked, 2 * random, _PRIME)


def _proof(secret: int, key: int, *, caller: int, server: int) -> str:
    said = b"".join(number.to_bytes(_BYTES) for number in (caller, server, key, secret))
    derived = hashlib.sha256(b"omega21 token proof 1: key\0" + said).digest()
    return hmac.new(derived, b"the server knows the token", hashlib.sha256).hexdigest()


def _hexadecimal(number: int) -> str:
    return f"{number:0{2 * _BYTES}x}"
