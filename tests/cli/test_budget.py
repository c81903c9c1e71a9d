"""`--budget`, `--samples-type`, and what `status` says of the month."""

import re
from pathlib import Path

import pytest

from omega21.cli.commands.status import traffic_line
from omega21.protocol.link.tunnels import TunnelKind
from omega21.protocol.link.usage import month_traffic
from tests.cli.conftest import Omega21

SMALL = ("--samples", "300", "--validation", "0")


def test_a_budget_is_told_chosen_for_and_kept(on_server: Omega21, tmp_path: Path) -> None:
    done = on_server("train", "--run", "within", *SMALL, "--budget", "1MB")
    assert done.status == 0, done.stderr
    (told,) = re.findall(r"this training needs about ([\d.]+) MB", done.stderr)
    assert float(told) <= 1
    assert "to fit the budget of 1.0 MB: samples are sent as float16" in done.stderr
    plan = (tmp_path / "data" / "omega21" / "runs" / "within" / "plan.json").read_text()
    assert '"samples_type": "float16"' in plan


def test_a_budget_that_cannot_be_kept_is_one_line_and_leaves_nothing(
    on_server: Omega21, tmp_path: Path
) -> None:
    done = on_server("train", "--run", "beyond", *SMALL, "--budget", "300KB")
    assert done.status == 84
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error")]
    assert re.search(r"needs at least about [\d.]+ MB, the budget is 0\.3 MB; raise", line)
    assert not (tmp_path / "data" / "omega21" / "runs" / "beyond").exists()
    assert on_server("status", "--run", "beyond").status != 0


def test_the_type_that_was_asked_for_is_not_changed_for_a_budget(on_server: Omega21) -> None:
    arguments = ("train", "--run", "asked", *SMALL, "--budget", "1MB")
    assert on_server(*arguments, "--samples-type", "float32").status == 84
    assert on_server(*arguments, "--samples-type", "float16").status == 0


def test_what_is_no_size_is_refused(on_server: Omega21) -> None:
    done = on_server("train", *SMALL, "--budget", "little")
    assert done.status == 2
    assert "--budget takes a number of bytes" in done.stderr


def test_status_shows_the_month(on_server: Omega21) -> None:
    shown = on_server("status").stdout
    assert re.search(r"traffic +[\d.]+ MB and \d+ requests in 20\d\d-\d\d", shown)
    figures = on_server("status", "--json").figures["traffic"]
    assert figures["tunnel"] == "none"
    assert figures["bytes_left"] is None


@pytest.mark.parametrize(
    ("tunnel", "left"),
    [
        ("none", ""),
        ("ngrok", "; ngrok's free plan leaves 958 MB and 19,682 requests"),
        (
            "cloudflared",
            "; cloudflared allows 200 requests at a time, of 100 s at most, and has no monthly "
            "limit",
        ),
    ],
)
def test_what_each_tunnel_leaves_is_said(tunnel: TunnelKind, left: str) -> None:
    month = month_traffic(
        tunnel, month="2025-01", requests=318, bytes_in=42_000_000, bytes_out=100_000
    )
    assert traffic_line(month) == f"42.1 MB and 318 requests in 2025-01{left}"
