"""`make chaos`: does harm to real servers, clients and links, and counts what is lost or repeated.

    python -m chaos [--seed N] [--faults N] [--only NAME …] [--at-once N] [--write] [--keep FOLDER]

Every run is compared with the one that nobody disturbed: each step once, the same results, the
same weights, the same totals. Exit status 1 when anything differs.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import secrets
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import anyio

from chaos import table
from chaos.scenarios import SCENARIOS, Played, Scenario, play, times_of
from chaos.stage import undisturbed_outcomes

PAGE = Path(__file__).parents[1] / "docs" / "reliability.md"
AT_ONCE = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Play the scenarios; return 0 when every run came out as the undisturbed one."""
    given = _parse(arguments)
    chosen = [s for s in SCENARIOS if not given.only or s.name in given.only]
    print(f"seed {given.seed}, {given.faults} faults", flush=True)
    started = time.monotonic()
    with ExitStack() as stack:
        made = tempfile.TemporaryDirectory(prefix="omega21-chaos-", ignore_cleanup_errors=True)
        folder = given.keep or Path(stack.enter_context(made))
        played = anyio.run(_play_all, chosen, folder, given)
    print(f"\n{table.as_text(table.lines(played))}\n")
    print(f"seed {given.seed}, {time.monotonic() - started:.0f} s")
    if given.write:
        runs = sum(len(one.verdicts) for one in played)
        table.write(PAGE, table.lines(played), runs=runs, seed=given.seed)
    for one in played:
        if one.broke is not None:
            print(f"\n{one.scenario.name} broke:\n{one.broke}", file=sys.stderr)
    return 0 if all(one.is_good for one in played) else 1


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**31))
    parser.add_argument("--faults", type=int, default=200, help="at least so many")
    parser.add_argument("--only", nargs="+", choices=[s.name for s in SCENARIOS])
    parser.add_argument("--at-once", type=int, default=AT_ONCE, help="scenarios at a time")
    parser.add_argument("--write", action="store_true", help=f"put the table in {PAGE.name}")
    parser.add_argument("--keep", type=Path, help="a new folder for run folders and logs")
    return parser.parse_args(arguments)


async def _play_all(
    scenarios: Sequence[Scenario], folder: Path, given: argparse.Namespace
) -> list[Played]:
    undisturbed = await undisturbed_outcomes(folder / "undisturbed", given.seed)
    played: dict[str, Played] = {}
    limit = anyio.CapacityLimiter(given.at_once)

    async def play_one(scenario: Scenario) -> None:
        async with limit:
            started = time.monotonic()
            one = await play(
                scenario,
                folder / scenario.name,
                seed=given.seed,
                times=times_of(scenario, given.faults),
                undisturbed=undisturbed,
            )
        played[scenario.name] = one
        print(_told(one, time.monotonic() - started), flush=True)

    async with anyio.create_task_group() as tasks:
        for scenario in scenarios:
            tasks.start_soon(play_one, scenario)
    return [played[scenario.name] for scenario in scenarios]


def _told(one: Played, seconds: float) -> str:
    if one.skipped is not None:
        return f"{one.scenario.name}: not done, {one.skipped}"
    said = "as undisturbed" if one.is_good else "BROKE" if one.broke else "DIFFERS"
    faults, runs = one.faults.total(), len(one.verdicts)
    return f"{one.scenario.name}: {faults} faults in {runs} runs, {seconds:.0f} s: {said}"


if __name__ == "__main__":
    sys.exit(main())
