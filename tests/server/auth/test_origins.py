"""Which pages are the server's own, behind a proxy too, and which are not."""

import pytest
from starlette.datastructures import Headers

from omega21.protocol.errors import ForeignOrigin
from omega21.server.auth.origins import came_by_https, check_own_page

PUBLIC = "abc.ngrok-free.app"


def is_own(**headers: str) -> bool:
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    try:
        check_own_page(Headers(named), certainly_browser=True)
    except ForeignOrigin:
        return False
    return True


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "127.0.0.1:8000", "origin": "http://127.0.0.1:8000"},
        {"host": "[::1]:8000", "origin": "http://[::1]:8000"},
        {"host": PUBLIC, "origin": f"https://{PUBLIC}"},
        {"host": PUBLIC.upper(), "origin": f"https://{PUBLIC}"},
        {"host": f"{PUBLIC}:443", "origin": f"https://{PUBLIC}"},
        {"host": PUBLIC, "origin": f"https://{PUBLIC}", "x_forwarded_proto": "https"},
        {"host": "127.0.0.1:8000", "origin": f"https://{PUBLIC}", "x_forwarded_host": PUBLIC},
        {"host": "up", "origin": f"https://{PUBLIC}", "x_forwarded_host": f"{PUBLIC}, inner"},
        {"host": PUBLIC, "origin": f"https://{PUBLIC}", "sec_fetch_site": "same-origin"},
    ],
)
def test_own_pages(headers: dict[str, str]) -> None:
    assert is_own(**headers)


@pytest.mark.parametrize(
    "headers",
    [
        {"host": PUBLIC},
        {"host": PUBLIC, "origin": "null"},
        {"host": PUBLIC, "origin": ""},
        {"host": PUBLIC, "origin": PUBLIC},
        {"host": PUBLIC, "origin": "https://elsewhere.example"},
        {"host": PUBLIC, "origin": f"https://{PUBLIC}.elsewhere.example"},
        {"host": PUBLIC, "origin": f"https://{PUBLIC}@elsewhere.example"},
        {"host": PUBLIC, "origin": f"https://elsewhere.example@{PUBLIC}"},
        {"host": PUBLIC, "origin": f"https://{PUBLIC}:8443"},
        {"host": PUBLIC, "origin": f"https://{PUBLIC}/"},
        {"host": PUBLIC, "origin": f"https://{PUBLIC}:port"},
        {"host": PUBLIC, "origin": f"ftp://{PUBLIC}"},
        {"host": PUBLIC, "origin": "https://[::1"},
        {"host": "[::1", "origin": "https://[::1"},
        {"host": PUBLIC, "origin": f"http://{PUBLIC}", "x_forwarded_proto": "https"},
        {"host": PUBLIC, "origin": "https://inner", "x_forwarded_host": f"{PUBLIC}, inner"},
        {"host": PUBLIC, "origin": f"https://{PUBLIC}", "sec_fetch_site": "same-site"},
        {"host": PUBLIC, "origin": f"https://{PUBLIC}", "sec_fetch_site": "cross-site"},
        {"host": "", "origin": "https://"},
    ],
)
def test_pages_of_others(headers: dict[str, str]) -> None:
    assert not is_own(**headers)


@pytest.mark.parametrize(
    ("headers", "secure"),
    [
        ({}, False),
        ({"origin": f"http://{PUBLIC}"}, False),
        ({"origin": f"https://{PUBLIC}"}, True),
        ({"x-forwarded-proto": "https, http"}, True),
        ({"x-forwarded-proto": "http"}, False),
    ],
)
def test_whether_the_browser_speaks_tls(headers: dict[str, str], secure: bool) -> None:
    assert came_by_https(Headers(headers)) is secure
