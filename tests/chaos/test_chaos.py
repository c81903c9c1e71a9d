"""A short selection of `make chaos`: one of each kind of trouble, at random instants."""

from pathlib import Path

import anyio
import pytest

from chaos.scenarios import SCENARIOS, Scenario, play
from chaos.stage import undisturbed_outcomes
from chaos.workload import Outcome, Totals, compare

SEED = 7
TIMES = {"child": 1, "damaged": 1, "refused": 1}
"""What tests/client/training/test_faults.py does not show: kills, damage, a refused write."""

CHOSEN = [scenario for scenario in SCENARIOS if scenario.name in TIMES]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Outcome]:
    return anyio.run(undisturbed_outcomes, tmp_path_factory.mktemp("undisturbed"), SEED)


@pytest.mark.parametrize("scenario", CHOSEN, ids=lambda scenario: scenario.name)
def test_a_run_comes_out_as_the_undisturbed_one(
    scenario: Scenario, undisturbed: tuple[Outcome, Outcome], tmp_path: Path
) -> None:
    async def run() -> None:
        played = await play(
            scenario,
            tmp_path / scenario.name,
            seed=SEED,
            times=TIMES[scenario.name],
            undisturbed=undisturbed,
        )
        assert played.broke is None, played.broke
        assert played.is_good, played.verdicts
        assert played.faults.total() >= TIMES[scenario.name]

    anyio.run(run)


def test_what_is_lost_repeated_or_changed_is_seen(undisturbed: tuple[Outcome, Outcome]) -> None:
    whole = undisturbed[0]
    steps, totals = whole.steps, whole.totals

    assert compare(whole, whole).is_good
    gap = Outcome(steps[:9] + steps[10:], whole.weights_sha256, totals)
    assert compare(gap, whole).lost == 1
    twice = Outcome((*steps, steps[-1]), whole.weights_sha256, totals)
    assert compare(twice, whole).repeated == 1
    trained_twice = Outcome(steps, whole.weights_sha256, totals._replace(batches=len(steps) + 1))
    assert compare(trained_twice, whole).repeated == 1
    assert not compare(Outcome(steps, "0" * 64, totals), whole).digests_equal
    other_loss = (*steps[:-1], steps[-1]._replace(digest="0" * 64))
    assert not compare(Outcome(other_loss, whole.weights_sha256, totals), whole).digests_equal
    assert not compare(Outcome(steps, whole.weights_sha256, Totals(0, 0, 0.0, 0)), whole).is_good
