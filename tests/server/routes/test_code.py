"""Who may send source: a program with the token, over a link that hides it; each is told."""

import http.client
from collections.abc import Iterator
from contextlib import nullcontext

import pytest

from omega21.protocol.errors import CodeNotAllowed
from omega21.protocol.tasks.code import CODE_MEDIA_TYPE, code_sha256, encode_code
from omega21.server.auth.access import Access
from omega21.server.auth.code_upload import check_code_upload
from tests.servers import RunningServer, start_server

TOKEN = "a-token-of-the-source"
FILES = {"net.py": b"def build(schema): ..."}
NAME, BODY = code_sha256(FILES), encode_code(FILES)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("code") / "data"
    with start_server(folder, "--threads", "1", "--allow-code", token=TOKEN) as running:
        yield running


def put(server: RunningServer, headers: dict[str, str]) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    given = {"Content-Type": CODE_MEDIA_TYPE, "Authorization": f"Bearer {TOKEN}", **headers}
    connection.request("PUT", f"/code/{NAME}", BODY, given)
    reply = connection.getresponse()
    found = reply.status, reply.read()
    connection.close()
    return found


def test_a_program_may_and_the_owner_is_told(server: RunningServer) -> None:
    refused = [
        {"Authorization": "Basic dTphLXRva2VuLW9mLXRoZS1zb3VyY2U="},
        {"Cookie": "omega21_session=x"},
        {"Origin": server.address},
        {"Sec-Fetch-Site": "same-origin"},
        {"X-Forwarded-Proto": "http"},
    ]
    for headers in refused:
        status, body = put(server, headers)
        assert status == 403, headers
        assert b"code_not_allowed" in body or b"foreign_origin" in body
    assert not list(server.data_dir.glob("code/*"))
    assert put(server, {"Content-Type": "application/json"})[0] == 415
    assert put(server, {"Authorization": "Bearer wrong"})[0] == 401
    assert put(server, {"X-Forwarded-Proto": "https"})[0] == 201
    assert put(server, {})[0] == 200
    assert server.process.stdout is not None
    assert server.process.stdout.readline() == f"accepted source sha256:{NAME}\n"
    assert server.log.count(f"source sha256:{NAME} accepted: 1 files, 22 B") == 1


@pytest.mark.parametrize(
    ("peer", "headers", "may"),
    [
        ("127.0.0.1", {}, True),
        ("::1", {}, True),
        ("127.0.0.1", {"x-forwarded-proto": "https"}, True),
        ("127.0.0.1", {"x-forwarded-proto": "http"}, False),
        ("127.0.0.1", {"x-forwarded-proto": "http, https"}, False),
        ("192.168.1.7", {}, False),
        ("192.168.1.7", {"x-forwarded-proto": "https"}, False),
        (None, {}, False),
        ("127.0.0.1", {"authorization": "Bearer other"}, False),
    ],
)
def test_the_link_hides_it(peer: str | None, headers: dict[str, str], *, may: bool) -> None:
    given = {"authorization": f"Bearer {TOKEN}", **headers}
    scope = {
        "type": "http",
        "client": None if peer is None else (peer, 1),
        "headers": [(name.encode(), text.encode()) for name, text in given.items()],
    }
    with nullcontext() if may else pytest.raises(CodeNotAllowed):
        check_code_upload(Access(token=TOKEN), scope)


def test_a_peer_elsewhere_is_told_what_to_use() -> None:
    scope = {"type": "http", "client": ("10.0.0.1", 1), "headers": []}
    with pytest.raises(CodeNotAllowed, match=r"over TLS or from this machine only.*ssh -L"):
        check_code_upload(Access(), scope)
