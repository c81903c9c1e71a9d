"""SessionTokens: what opens, for how long, and what a forger can do with one."""

import pytest

from omega21.server.auth.sessions import MAX_AGE_SECONDS, SessionTokens


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.5

    def __call__(self) -> float:
        return self.now


def test_a_ticket_opens_until_its_end() -> None:
    clock = Clock()
    session_tokens = SessionTokens("secret", clock=clock)
    session_token = session_tokens.issue()
    assert session_tokens.opens(session_token)
    clock.now += MAX_AGE_SECONDS - 2
    assert session_tokens.opens(session_token)
    clock.now += 2
    assert not session_tokens.opens(session_token)
    assert session_tokens.is_ours(session_token)


def test_a_clock_that_is_set_back_does_not_lengthen_its_life() -> None:
    clock = Clock()
    session_tokens = SessionTokens("secret", clock=clock)
    session_token = session_tokens.issue()
    clock.now -= 3600
    assert not session_tokens.opens(session_token)


def test_it_outlives_a_restart_and_not_the_token() -> None:
    session_token = SessionTokens("secret").issue()
    assert SessionTokens("secret").opens(session_token)
    assert not SessionTokens("another").opens(session_token)
    assert not SessionTokens("another").is_ours(session_token)


def test_no_two_are_alike_and_none_holds_the_token() -> None:
    session_tokens = SessionTokens("secret-token")
    first, second = session_tokens.issue(), session_tokens.issue()
    assert first != second
    assert "secret" not in first


@pytest.mark.parametrize("part", [0, 1, 2])
def test_a_changed_ticket_does_not_open(part: int) -> None:
    session_tokens = SessionTokens("secret")
    parts = session_tokens.issue().split(".")
    last = parts[part][-1]
    parts[part] = parts[part][:-1] + ("1" if last != "1" else "2")
    assert not session_tokens.is_ours(".".join(parts))


@pytest.mark.parametrize("text", ["", "..", "a.b.c", "0" * 32 + ".\u0661." + "0" * 64, "secret"])
def test_what_is_no_ticket_does_not_open(text: str) -> None:
    assert not SessionTokens("secret").opens(text)


def test_a_revoked_ticket_opens_no_more_and_others_do() -> None:
    session_tokens = SessionTokens("secret")
    first, second = session_tokens.issue(), session_tokens.issue()
    session_tokens.revoke(first)
    session_tokens.revoke("nonsense")
    assert (session_tokens.opens(first), session_tokens.opens(second)) == (False, True)


def test_it_remembers_a_bounded_number_of_revoked_ones() -> None:
    clock = Clock()
    session_tokens = SessionTokens("secret", clock=clock)
    last = [session_tokens.issue() for _ in range(3000)]
    for session_token in last:
        session_tokens.revoke(session_token)
    assert len(session_tokens._revoked) == 1024
    assert not session_tokens.opens(last[-1])
    clock.now += MAX_AGE_SECONDS + 1
    newest = session_tokens.issue()
    session_tokens.revoke(newest)
    assert len(session_tokens._revoked) == 1, "those that are over are forgotten first"
