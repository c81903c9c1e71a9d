"""How a link is used, by its address and by what was measured of it."""

import pytest

from omega21.client.http.link import LOCAL, REMOTE, LinkProfile, link_profile
from omega21.client.http.transport import Transport


@pytest.mark.parametrize(
    ("address", "profile"),
    [
        ("http://127.0.0.1:8000", LOCAL),
        ("http://localhost:8000/behind", LOCAL),
        ("http://[::1]:8000", LOCAL),
        ("https://tall-mouse.trycloudflare.com", REMOTE),
        ("https://192.168.1.7:8000", REMOTE),
        ("https://localhost.example.org", REMOTE),
    ],
)
def test_only_an_address_of_this_machine_is_local(address: str, profile: LinkProfile) -> None:
    assert link_profile(address) is profile
    assert Transport(address).profile is profile


def test_a_remote_link_is_asked_less_often() -> None:
    assert LOCAL.gather_seconds < REMOTE.gather_seconds
    assert LOCAL.poll_seconds < REMOTE.poll_seconds


def test_the_rate_of_an_upload_is_the_measured_one_of_a_remote_link() -> None:
    assert REMOTE.upload_rate(None) == REMOTE.bytes_per_second
    assert REMOTE.upload_rate(5e6) == 5e6
    assert LOCAL.upload_rate(5e6) == LOCAL.bytes_per_second
