"""Connections that are slow, half closed, or ten thousand."""

import resource
import selectors
import socket
from contextlib import ExitStack, closing, suppress

import pytest

from omega21.server.http.connections import Limits
from tests.attacks.target import BEARER, RUN, Target, read_reply, request

MANY = 10_000


def test_slow_senders_cost_their_own_requests(target: Target) -> None:
    head = request("PUT", f"/shards/{'0' * 64}", "Content-Type: application/vnd.safetensors")
    beginnings = (
        b"G",
        b"GET /status HTTP/1.1\r\nHost: x\r\n",
        head[:-2] + b"Content-Length: 1000\r\n\r\nabc",
        head[:-2] + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab",
        request("POST", "/session", "Content-Length: 50", token=False) + b"{",
    )
    with ExitStack() as opened, target.attacked(megabytes=100):
        slow = [opened.enter_context(closing(target.connect())) for _ in range(300)]
        for number, connection in enumerate(slow):
            connection.sendall(beginnings[number % len(beginnings)])
        for _ in range(5):
            for connection in slow:
                with suppress(ConnectionError):
                    connection.sendall(b"x")


def test_bodies_in_pieces_of_a_byte(target: Target) -> None:
    call = request("POST", "/train_layer2", "Transfer-Encoding: chunked", token=False)
    with target.attacked(megabytes=100):
        replies = target.send_all([call + b"1\r\nx\r\n" * 100_000] * 30)
    assert all(reply.status in {0, 400, 401} for reply in replies)


@pytest.mark.parametrize("token", [True, False], ids=["with-the-token", "without-it"])
def test_half_closed_sockets(target: Target, token: bool) -> None:
    whole = request("GET", "/status", token=token)
    body = request("POST", "/shards/missing", "Content-Type: application/json", token=token)
    sent = [
        b"",
        whole[:10],
        whole[:-2],
        whole,
        body[:-2] + b"Content-Length: 100\r\n\r\nhalf",
        body[:-2] + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab",
        request("GET", f"/runs/{RUN}/steps?after=999999&wait=25", token=token),
    ]
    with target.attacked(megabytes=100):
        replies = [target.send(text, close=True) for text in sent * 5]
    assert all(reply.status < 500 for reply in replies)


def test_readers_that_do_not_read(target: Target) -> None:
    call = request("GET", "/runs/default/checkpoint?part=weights")
    room = 4 * Limits().unread // 2**20  # a reply of 48 MB is held more than once on its way
    with ExitStack() as opened, target.attacked(megabytes=room):
        for _ in range(24):
            connection = socket.socket()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", target.server.port))
            opened.enter_context(closing(connection)).sendall(call)


@pytest.fixture
def many_files() -> None:
    wanted = MANY + 1000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"NOT TESTED: {wanted} open files are needed, and {hard} are allowed here")
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@pytest.mark.usefixtures("many_files")
def test_ten_thousand_connections_leave_room_for_the_owner(target: Target) -> None:
    with ExitStack() as opened, target.attacked(megabytes=300):
        flood = []
        for number in range(MANY):
            connection = opened.enter_context(closing(target.connect()))
            if number % 3 == 0:
                with suppress(ConnectionError):
                    connection.sendall(b"GET /status HTTP/1.1\r\nHost: x\r\n")
            flood.append(connection)
            if number % 250 == 0:
                # The server has taken in those before: what waits for it in the system is no test.
                assert target.send(request("GET", "/health", token=False)).status == 200
        with target.owner() as owner:
            assert owner.status(RUN).run == RUN
        wait_until_sent_away(flood, but=Limits().connections)
        assert target.open_files() < Limits().connections + 512


def wait_until_sent_away(connections: list[socket.socket], *, but: int) -> None:
    """Wait until the server has closed all but so many."""
    with selectors.DefaultSelector() as selector:
        for connection in connections:
            selector.register(connection, selectors.EVENT_READ)
        while len(selector.get_map()) > but:
            ended = selector.select(timeout=60)
            assert ended, f"{len(selector.get_map())} are still there"
            for key, _ in ended:
                selector.unregister(key.fileobj)


def test_a_flood_of_requests_does_not_make_the_supervisor_think_that_the_server_hangs(
    target: Target,
) -> None:
    pipelined = b"GET /status HTTP/1.1\r\nHost: x\r\n\r\n" * 200
    with target.attacked(megabytes=150), ExitStack() as opened:
        flood = [opened.enter_context(closing(target.connect())) for _ in range(50)]
        for connection in flood:
            with suppress(ConnectionError):
                connection.sendall(pipelined)
        assert {read_reply(connection).status for connection in flood} <= {0, 401}


def test_a_connection_stays_usable_for_who_behaves(target: Target) -> None:
    with closing(target.connect()) as connection, target.attacked(megabytes=100):
        for _ in range(50):
            connection.sendall(f"GET /status HTTP/1.1\r\nHost: x\r\n{BEARER}\r\n".encode())
            assert read_reply(connection).status == 200
