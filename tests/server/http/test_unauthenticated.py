"""What unauthenticated requests may add to the log."""

import logging

import pytest

from omega21 import logs
from omega21.server.http.unauthenticated import (
    BURST,
    SECONDS_EACH,
    UnauthenticatedLogFilter,
    mark_unauthenticated,
)

FLOOD = 2000


class Written(logging.Handler):
    """Keeps what passes a filter."""

    def __init__(self, quiet: UnauthenticatedLogFilter) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.addFilter(quiet)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture
def clock() -> list[float]:
    return [1000.0]


@pytest.fixture
def quiet(clock: list[float]) -> UnauthenticatedLogFilter:
    return UnauthenticatedLogFilter(clock=lambda: clock[0])


@pytest.fixture
def logger() -> logging.Logger:
    return logging.Logger("unauthenticated", logging.DEBUG)  # noqa: LOG001 - nobody else's


def flood(logger: logging.Logger, level: int, times: int = FLOOD) -> None:
    with logs.log_context(request="unauthenticated"):
        mark_unauthenticated(is_one=True)
        for number in range(times):
            logger.log(level, "unauthenticated %d", number, extra={"status": 404})


@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR])
def test_a_flood_is_a_few_lines_alike_for_every_handler(
    quiet: UnauthenticatedLogFilter, logger: logging.Logger, level: int
) -> None:
    handlers = [Written(quiet), Written(quiet)]
    logger.handlers = list(handlers)
    flood(logger, level)
    logger.info("owner")
    for handler in handlers:
        assert handler.lines == [*(f"unauthenticated {n}" for n in range(BURST)), "owner"]


def test_the_owner_is_never_counted(
    quiet: UnauthenticatedLogFilter, logger: logging.Logger
) -> None:
    written = Written(quiet)
    logger.handlers = [written]
    with logs.log_context(request="of the owner"):
        mark_unauthenticated(is_one=True)
        mark_unauthenticated(is_one=False)
        for number in range(FLOOD):
            logger.info("owner %d", number)
    assert len(written.lines) == FLOOD


def test_warnings_are_heard_after_many_other_lines(
    quiet: UnauthenticatedLogFilter, logger: logging.Logger
) -> None:
    written = Written(quiet)
    logger.handlers = [written]
    flood(logger, logging.INFO)
    flood(logger, logging.WARNING, times=1)
    assert len(written.lines) == BURST + 1


def test_what_was_not_logged_is_counted_and_told(
    quiet: UnauthenticatedLogFilter,
    clock: list[float],
    logger: logging.Logger,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    logger.handlers = [Written(quiet)]
    flood(logger, logging.INFO)
    quiet.tell()
    assert not caplog.messages, "it is not yet time"
    clock[0] += SECONDS_EACH
    quiet.tell()
    quiet.tell()
    quiet.tell(at_last=True)
    rest = FLOOD - BURST
    assert caplog.messages == [f"{rest} more requests without the token (404: {rest})"]
    flood(logger, logging.INFO, times=BURST)
    quiet.tell(at_last=True)
    assert len(caplog.messages) == 2, "one line was paid off by then"


def test_in_a_day_of_floods_few_lines_are_written(
    quiet: UnauthenticatedLogFilter, clock: list[float], logger: logging.Logger
) -> None:
    written = Written(quiet)
    logger.handlers = [written]
    for _ in range(24 * 60):
        flood(logger, logging.INFO, times=10)
        clock[0] += 60
    assert len(written.lines) <= BURST + 24 * 3600 / SECONDS_EACH
