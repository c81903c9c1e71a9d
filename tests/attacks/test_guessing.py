"""Guessing the token, in every place where one can be shown, while the owner works."""

import base64
import json
import re

from tests.attacks.target import TOKEN, Target, request

GUESSES = 120


def basic(password: str) -> str:
    return base64.b64encode(f"omega21:{password}".encode()).decode()


def guesses() -> list[bytes]:
    calls = []
    for number in range(GUESSES):
        guess = f"{TOKEN[:-1]}{number}"
        claim = f"X-Forwarded-For: 203.0.113.{number}"
        bearer, password = f"Authorization: Bearer {guess}", f"Authorization: Basic {basic(guess)}"
        cookie = f"Cookie: omega21_session={number:032x}.9999999999.{number:064x}"
        calls += [
            request("GET", "/status", header, claim, token=False)
            for header in (bearer, password, cookie)
        ]
        body = json.dumps({"token": guess}).encode()
        calls.append(
            request("POST", "/session", "Content-Type: application/json", token=False, body=body)
        )
    return calls


def test_a_guesser_is_slowed_down_and_the_owner_is_not_locked_out(target: Target) -> None:
    lines_before = len(target.server.log.splitlines())
    with target.attacked(megabytes=100):
        replies = target.send_all(guesses())
        with target.owner() as owner:
            assert owner.status().status == "online"
        by_password = request("GET", "/status", f"Authorization: Basic {basic(TOKEN)}", token=False)
        assert target.send(by_password).status == 200
    assert {reply.status for reply in replies} <= {401, 429}
    slowed = [reply for reply in replies if reply.status == 429]
    assert len(slowed) > len(replies) // 2
    assert all(re.search(rb"(?i)\r\nretry-after: [1-9]", reply.text) for reply in slowed)
    assert all(TOKEN[:-1].encode() not in reply.text for reply in replies)
    new_lines = target.server.log.splitlines()[lines_before:]
    told = [line for line in new_lines if "wrong token" in line or re.search("-> 4(01|29)", line)]
    assert len(told) < 10, "guesses fill the log"
