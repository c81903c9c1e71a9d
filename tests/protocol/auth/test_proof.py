"""A proof that a token is known: made by who knows it alone, and useless for guessing at home."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omega21.protocol.auth.proof import _PRIME, Challenge, Prover, ProveToken, TokenProof

tokens = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=60)


@settings(max_examples=10, deadline=None)
@given(token=tokens)
def test_who_knows_the_token_proves_it(token: str) -> None:
    challenge = Challenge(token)
    answer = Prover(token).answer(challenge.request)
    assert answer is not None
    assert challenge.accepts(answer)


@settings(max_examples=10, deadline=None)
@given(token=tokens, other=tokens)
def test_nobody_else_does(token: str, other: str) -> None:
    if token == other:
        return
    challenge = Challenge(token)
    answer = Prover(other).answer(challenge.request)
    assert answer is not None
    assert not challenge.accepts(answer)


def test_an_answer_is_for_one_challenge() -> None:
    answer = Prover("secret").answer(Challenge("secret").request)
    assert answer is not None
    assert not Challenge("secret").accepts(answer)


def test_a_challenge_sent_back_proves_nothing() -> None:
    challenge = Challenge("secret")
    share = challenge.request.share
    for proof in ("", "0" * 64, share[:64]):
        assert not challenge.accepts(TokenProof(token_needed=True, share=share, proof=proof))
    assert not challenge.accepts(TokenProof(token_needed=True))
    assert not challenge.accepts(TokenProof(token_needed=True, share="no number", proof="é"))


@pytest.mark.parametrize("number", [0, 1, _PRIME - 1, _PRIME, 2**2048 - 1])
def test_shares_of_a_known_key_are_refused(number: int) -> None:
    share = f"{number:0512x}"
    assert Prover("secret").answer(ProveToken(share=share)) is None
    assert not Challenge("secret").accepts(
        TokenProof(token_needed=True, share=share, proof="0" * 64)
    )


def test_the_group_is_that_of_rfc_3526() -> None:
    order = (_PRIME - 1) // 2
    assert _PRIME.bit_length() == 2048
    assert f"{_PRIME:x}".startswith("ffffffffffffffffc90fdaa22168c234")
    assert pow(3, _PRIME - 1, _PRIME) == pow(3, order - 1, order) == pow(2, order, _PRIME) == 1
