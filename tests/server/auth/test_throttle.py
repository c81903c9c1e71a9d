"""How many wrong tokens are answered with 401 before it is 429, and for whom."""

import logging

import pytest

from omega21.server.auth.throttle import BURST, SECONDS_EACH, Throttle


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_then_one_every_few_seconds() -> None:
    clock = Clock()
    throttle = Throttle(clock=clock)
    assert [throttle.fail("a") for _ in range(BURST)] == [None] * BURST
    assert throttle.fail("a") == pytest.approx(SECONDS_EACH)
    assert throttle.fail("a") == pytest.approx(SECONDS_EACH), "a refused one lengthens the wait"
    clock.now += SECONDS_EACH
    assert throttle.fail("a") is None
    assert throttle.fail("a") is not None


def test_after_a_while_all_is_forgotten() -> None:
    clock = Clock()
    throttle = Throttle(clock=clock)
    for _ in range(BURST + 5):
        throttle.fail("a")
    clock.now += BURST * SECONDS_EACH
    assert [throttle.fail("a") for _ in range(BURST)] == [None] * BURST


def test_peers_are_counted_apart_and_an_ipv6_network_as_one() -> None:
    throttle = Throttle(clock=Clock())
    for n in range(BURST):
        throttle.fail(f"2001:db8::{n:x}")
    assert throttle.fail("2001:db8::ffff%eth0") is not None
    assert throttle.fail("2001:db8:0:1::1") is None
    assert throttle.fail("198.51.100.1") is None
    assert throttle.fail("") is None


def test_it_keeps_a_bounded_number_of_peers() -> None:
    throttle = Throttle(clock=Clock())
    for n in range(5000):
        throttle.fail(f"198.51.{n // 256}.{n % 256}")
    assert len(throttle._paid_off_at) == 1024


def test_a_guesser_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    throttle = Throttle(clock=clock)
    with caplog.at_level(logging.INFO):
        for _ in range(1000):
            throttle.fail("198.51.100.1")
        assert [record.message for record in caplog.records] == [
            "many wrong tokens from 198.51.100.1: answered with 429 for now"
        ]
        clock.now += 61
        for _ in range(1000):
            throttle.fail("198.51.100.1")
    assert len(caplog.records) == 2
