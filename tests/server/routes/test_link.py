"""The call that measures the link: bytes both ways, bounded, as they are."""

import httpx
import pytest

from omega21.protocol.link.probe import LINK_MEDIA_TYPE, MAX_LINK_BYTES


def test_bytes_go_both_ways_uncompressed(http: httpx.Client) -> None:
    reply = http.post("/link", params={"down": 1000}, content=b"")
    for down in (0, 1, 100_000):
        reply = http.post("/link", params={"down": down}, content=b"x" * 100_000)
        assert reply.status_code == 200
        assert len(reply.content) == down
        assert reply.headers["content-type"] == LINK_MEDIA_TYPE
        assert "content-encoding" not in reply.headers
    assert len(set(reply.content)) == 256


@pytest.mark.parametrize("down", [-1, MAX_LINK_BYTES + 1, "many"])
def test_it_answers_with_no_more_than_its_bound(http: httpx.Client, down: int | str) -> None:
    reply = http.post("/link", params={"down": down})
    assert reply.status_code == 422
    assert reply.json()["code"] == "invalid_request"


def test_it_takes_no_more_than_its_bound(http: httpx.Client) -> None:
    assert http.post("/link", content=bytes(MAX_LINK_BYTES)).status_code == 200
    reply = http.post("/link", content=bytes(MAX_LINK_BYTES + 1))
    assert reply.status_code == 413
    assert reply.json()["code"] == "body_too_large"
