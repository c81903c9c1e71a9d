"""Long polls without a server: they share reads, and are removed when they end."""

from collections.abc import Callable

import anyio
import pytest

from omega21.protocol.runs import RunSummary
from omega21.server.http.long_poll import LongPolls


def summary(step: int) -> RunSummary:
    return RunSummary(
        run="a", id="0" * 32, state="training", step=step, target=9, plan_steps=9, durable_step=0,
        paused=False, revision=0, digest="0" * 32,
    )  # fmt: skip


class Source:
    """A run whose position the test sets; counts how often it was read."""

    def __init__(self) -> None:
        self.step = 0
        self.readings = 0

    def read(self, _run: str) -> RunSummary:
        self.readings += 1
        return summary(self.step)


def reached(step: int) -> Callable[[RunSummary], int | None]:
    """Wait for a step."""
    return lambda now: None if now.step >= step else step


async def until(holds: Callable[[], bool]) -> None:
    """Wait for what nothing announces."""
    while not holds():  # noqa: ASYNC110
        await anyio.sleep(0.001)


def is_due(long_polls: LongPolls[RunSummary], step: int) -> bool:
    return bool(vars(long_polls)["_due"].get("a") == step)


@pytest.mark.anyio
async def test_long_polls_share_reads_and_leave_nothing_behind() -> None:
    source = Source()
    long_polls = LongPolls(source.read)
    async with anyio.create_task_group() as group:
        for _ in range(64):
            group.start_soon(lambda: long_polls.wait("a", reached(100), seconds=60))
        await anyio.lowlevel.checkpoint()
        for step in range(1, 101):
            source.step = step
            await anyio.to_thread.run_sync(long_polls.notify, "a")
    assert 1 <= source.readings < 20
    assert vars(long_polls)["_waiting"] == {}

    long_polls.notify("a")  # with nobody watching
    await anyio.lowlevel.checkpoint()
    assert vars(long_polls)["_changed"] == set()


@pytest.mark.anyio
async def test_steps_that_nobody_waits_for_are_not_read() -> None:
    source = Source()
    long_polls = LongPolls(source.read)
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: long_polls.wait("a", reached(100), seconds=60))
        await until(lambda: is_due(long_polls, 100))
        before = source.readings
        for source.step in range(1, 100):
            long_polls.notify("a", source.step)
            await anyio.sleep(0.001)
        assert source.readings == before
        long_polls.notify("a")  # something else, which may answer any of them
        await until(lambda: source.readings > before)
        source.step = 100
        long_polls.notify("a", 100)


@pytest.mark.anyio
async def test_a_newcomer_is_told_of_steps_before_those_that_others_wait_for() -> None:
    source = Source()
    long_polls = LongPolls(source.read)
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: long_polls.wait("a", reached(100), seconds=60))
        await until(lambda: is_due(long_polls, 100))
        group.start_soon(lambda: long_polls.wait("a", reached(7), seconds=60))
        await until(lambda: is_due(long_polls, 7))
        source.step = 7
        long_polls.notify("a", 7)
        await until(lambda: len(vars(long_polls)["_waiting"]["a"]) == 1)
        source.step = 100
        long_polls.notify("a", 100)


@pytest.mark.anyio
async def test_a_long_poll_that_times_out_removes_only_itself() -> None:
    source = Source()
    long_polls = LongPolls(source.read)
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: long_polls.wait("a", reached(1), seconds=60))
        await long_polls.wait("a", reached(2), seconds=0.01)
        assert len(vars(long_polls)["_waiting"]["a"]) == 1
        source.step = 1
        long_polls.notify("a")
    assert vars(long_polls)["_waiting"] == {}


@pytest.mark.anyio
async def test_what_changed_before_the_long_poll_is_seen() -> None:
    source = Source()
    source.step = 5
    await LongPolls(source.read).wait("a", reached(5), seconds=60)
    assert source.readings == 1


@pytest.mark.anyio
async def test_closing_ends_every_wait_from_then_on() -> None:
    long_polls = LongPolls(Source().read)
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: long_polls.wait("a", reached(1), seconds=60))
        await anyio.lowlevel.checkpoint()
        long_polls.close()
    await long_polls.wait("a", reached(1), seconds=60)
