"""Proxies and certificates of the environment: what is wrong with one is said with its name."""

import socket
import threading
from collections.abc import Iterator

import pytest

from omega21.client.sync import Client
from omega21.protocol.errors import InvalidRequest, Unreachable

_ADDRESS = "https://gpu.invalid"
_NAMES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in _NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def asking_proxy() -> Iterator[int]:
    """Serve one proxy's answer, that it wants a name and password, and yield its port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(
                    b"HTTP/1.1 407 Proxy Authentication Required\r\n"
                    b"Content-Length: 0\r\nConnection: close\r\n\r\n"
                )

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        thread.join()


def _ask() -> None:
    with Client(_ADDRESS, token="x" * 20, attempts=1) as client:
        client.info()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NO_PROXY", "localhost,[::1]"),
        ("NO_PROXY", "fe80::/10"),
        ("HTTPS_PROXY", "http://127.0.0.1:port"),
        ("ALL_PROXY", "gopher://127.0.0.1:9"),
        ("SSL_CERT_FILE", "/gone.pem"),
    ],
)
def test_an_environment_that_cannot_be_used_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    if name == "NO_PROXY":
        monkeypatch.setenv("HTTPS_PROXY", "http://me:secret@127.0.0.1:9")
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidRequest) as caught:
        _ask()
    assert f"{name}={value}" in caught.value.message
    assert "secret" not in str(caught.value)


def test_a_dead_proxy_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://me:secret@127.0.0.1:9")
    with pytest.raises(Unreachable, match=r"the proxy http://127\.0\.0\.1:9 ") as caught:
        _ask()
    assert "secret" not in str(caught.value)


def test_a_proxy_that_wants_a_password_is_told_one(
    monkeypatch: pytest.MonkeyPatch, asking_proxy: int
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{asking_proxy}")
    with pytest.raises(Unreachable) as caught:
        _ask()
    assert "name and password" in (caught.value.hint or "")
