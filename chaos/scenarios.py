"""The scenarios, how many faults each does, and what each needs of this machine."""

import math
import os
import sys
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio

from chaos import disks, hostile, kills, machines, races
from chaos.stage import Stage, set_stage
from chaos.workload import Outcome, Verdict

MOST_SECONDS = 900.0
"""A scenario that takes longer has hung."""


class CannotBeHad(Exception):
    """What a scenario needs is not on this machine."""


@dataclass(frozen=True)
class Needs:
    """What a scenario's server is given."""

    environment: dict[str, str] = field(default_factory=dict)
    data_dir: Path | None = None


@contextmanager
def _nothing(_: Path) -> Iterator[Needs]:
    yield Needs()


@contextmanager
def _small_disk(folder: Path) -> Iterator[Needs]:
    if sys.platform != "linux" or os.geteuid() != 0:
        raise CannotBeHad("mounting a small disk takes root on Linux")
    with disks.small_disk(folder.with_name(f"{folder.name}-disk")) as place:
        yield Needs(data_dir=place / "data")


@contextmanager
def _clock(folder: Path) -> Iterator[Needs]:
    folder.mkdir(parents=True)
    yield Needs(environment=machines.jumping_clock(folder / "clock"))


@dataclass(frozen=True)
class Scenario:
    """One kind of trouble: what it does, its share of all faults, what it needs."""

    name: str
    play: Callable[[Stage], Awaitable[None]]
    share: int
    needs: Callable[[Path], AbstractContextManager[Needs]] = _nothing


# Of 265 faults without the one scenario that not every machine can play.
SCENARIOS = (
    Scenario("executor", kills.executor_killed, 26),
    Scenario("child", kills.child_killed, 20),
    Scenario("server", kills.server_killed, 8),
    Scenario("link", kills.link_planned, 60),
    Scenario("link-inline", kills.link_inline, 60),
    Scenario("client", kills.client_killed, 24),
    Scenario("inline", kills.killed_inline, 4),
    Scenario("replaced", machines.replaced, 4),
    Scenario("restored", machines.restored, 4),
    Scenario("damaged", machines.damaged, 6),
    Scenario("refused", disks.write_refused, 8),
    Scenario("races", races.on_one_server, 1),
    Scenario("hostile", hostile.hostile_server, 16),
    Scenario("storm", kills.all_at_once, 12),
    Scenario("clock", machines.clock_jumps, 12, _clock),
    Scenario("disk", disks.disk_full, 8, _small_disk),
)


def times_of(scenario: Scenario, faults: int) -> int:
    """Divide so many faults among the scenarios; what a machine cannot play comes on top."""
    everywhere = sum(other.share for other in SCENARIOS if other.needs is not _small_disk)
    return math.ceil(scenario.share * faults / everywhere)


@dataclass(frozen=True)
class Played:
    """What a scenario did, and what came of it."""

    scenario: Scenario
    faults: Counter[str]
    verdicts: tuple[Verdict, ...]
    skipped: str | None = None
    broke: str | None = None

    @property
    def is_good(self) -> bool:
        """Whether every run came out as the undisturbed one."""
        return self.broke is None and all(verdict.is_good for verdict in self.verdicts)


async def play(
    scenario: Scenario,
    folder: Path,
    *,
    seed: int,
    times: int,
    undisturbed: tuple[Outcome, Outcome],
) -> Played:
    """Play one scenario to its end, within bounds."""
    stage: Stage | None = None
    broke: str | None = None
    try:
        with scenario.needs(folder) as needs:
            async with set_stage(
                folder,
                seed=seed,
                times=times,
                undisturbed=undisturbed,
                environment=needs.environment,
                data_dir=needs.data_dir,
            ) as stage:
                with anyio.fail_after(MOST_SECONDS):
                    await scenario.play(stage)
    except CannotBeHad as error:
        return Played(scenario, Counter(), (), skipped=str(error))
    except Exception:  # noqa: BLE001 - whatever breaks a scenario is what it was to find
        broke = traceback.format_exc()
    faults = Counter() if stage is None else stage.all_faults()
    verdicts = () if stage is None else tuple(stage.verdicts)
    return Played(scenario, faults, verdicts, broke=broke)
