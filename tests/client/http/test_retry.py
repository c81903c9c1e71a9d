"""What is done about a failure, decided without a socket."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omega21.client.http.retry import LONGEST_WAIT, Fatal, Retry, RetryRules, is_link_failure, judge
from omega21.protocol.errors import (
    Conflict,
    InternalError,
    NotOmega21,
    OmegaError,
    RequestRefused,
    StillRunning,
    TimedOut,
    Unavailable,
    UnknownProblem,
    Unreachable,
    error_classes,
)


@pytest.mark.parametrize("kind", [*error_classes(RequestRefused), *error_classes(Conflict)])
def test_what_was_refused_is_not_asked_again(kind: type[OmegaError]) -> None:
    assert isinstance(judge(kind("no")), Retry if kind is StillRunning else Fatal)


@pytest.mark.parametrize("kind", [Unreachable, TimedOut, Unavailable, InternalError])
def test_what_may_pass_is_asked_again(kind: type[OmegaError]) -> None:
    verdict = judge(kind("busy", retry_after=3))
    assert isinstance(verdict, Retry)
    assert verdict.at_least == 3
    assert verdict.counts


def test_a_server_that_works_on_it_is_waited_for_without_end() -> None:
    verdict = judge(StillRunning("working"))
    assert isinstance(verdict, Retry)
    assert not verdict.counts
    assert not RetryRules(attempts=1).gives_up(verdict, 1000, down_for=0)


def test_a_request_without_a_key_is_none_that_it_works_on() -> None:
    verdict = judge(StillRunning("working"), keyed=False)
    assert isinstance(verdict, Retry)
    assert verdict.counts


@pytest.mark.parametrize("seconds", [86_400, 1e12, math.inf, math.nan, -1, -math.inf])
@pytest.mark.parametrize("kind", [Unavailable, TimedOut, StillRunning, UnknownProblem])
def test_a_wait_that_is_asked_for_is_a_number_within_bounds(
    kind: type[OmegaError], seconds: float
) -> None:
    verdict = judge(kind("busy", retry_after=seconds))
    assert isinstance(verdict, Retry)
    assert 0 <= verdict.at_least <= LONGEST_WAIT


@pytest.mark.parametrize("down_for", [0.0, 9.0, 11.0])
def test_no_wait_outlasts_the_patience(down_for: float) -> None:
    retry = Retry(Unreachable("gone", retry_after=1e12), LONGEST_WAIT)
    delay = RetryRules(patience=10).within_patience(60, retry, down_for=down_for, waited=1e6)
    assert delay == max(0.0, 10 - down_for)


@pytest.mark.parametrize("waited", [0.0, 9.0, 11.0])
def test_the_waits_of_a_call_are_bounded_together(waited: float) -> None:
    retry = Retry(Unavailable("busy", retry_after=1e12), LONGEST_WAIT)
    delay = RetryRules(in_all=10).within_patience(60, retry, down_for=1e6, waited=waited)
    assert delay == max(0.0, 10 - waited)


def test_an_unknown_problem_is_asked_again_only_when_it_says_when() -> None:
    assert isinstance(judge(UnknownProblem("?")), Fatal)
    assert isinstance(judge(UnknownProblem("?", retry_after=1)), Retry)


def test_unreachable_is_not_refused() -> None:
    assert is_link_failure(Unreachable("gone"))
    assert not is_link_failure(NotOmega21("a router"))


@given(failures=st.integers(1, 10_000), chance=st.floats(0, 1, exclude_max=True))
def test_delays_grow_to_a_limit_and_are_spread(failures: int, chance: float) -> None:
    rules = RetryRules(first_delay=0.5, longest_delay=15)
    delay = rules.delay(failures, chance=chance, at_least=0)
    assert 0.25 <= delay <= 15
    assert rules.delay(failures + 1, chance=chance, at_least=0) >= delay
    assert rules.delay(failures, chance=0, at_least=0) * 2 >= delay


@given(at_least=st.floats(0, LONGEST_WAIT))
def test_the_server_says_how_long_to_wait(at_least: float) -> None:
    assert RetryRules().delay(1, chance=0.5, at_least=at_least) >= at_least


def test_attempts_are_counted_and_patience_is_measured() -> None:
    down = Retry(Unreachable("gone"), 0)
    assert not RetryRules(attempts=3).gives_up(down, 2, down_for=1e6)
    assert RetryRules(attempts=3).gives_up(down, 3, down_for=0)
    assert not RetryRules(patience=60).gives_up(down, 1000, down_for=59)
    assert RetryRules(patience=60).gives_up(down, 1, down_for=60)
    fault = Retry(InternalError("fault"), 0)
    assert RetryRules(patience=60, attempts=3).gives_up(fault, 3, down_for=0)
