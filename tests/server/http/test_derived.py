"""What derives from a library's internals: only on the minor versions that it was tested with."""

import tomllib
from importlib.metadata import version
from pathlib import Path

import h11
import pytest
import uvicorn
from packaging.requirements import Requirement
from packaging.version import Version
from starlette.responses import FileResponse
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

ROOT = Path(__file__).parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PINS = dict(
    line.split("==")
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if "==" in line and not line.lstrip().startswith("#")
)


@pytest.mark.parametrize("name", ["h11", "uvicorn"])
def test_a_library_whose_internals_are_overridden_is_capped_at_the_tested_minor(name: str) -> None:
    extra = map(Requirement, PROJECT["project"]["optional-dependencies"]["server"])
    [specifier] = [needed.specifier for needed in extra if needed.name == name]
    pinned = Version(PINS[name])

    assert Version(version(name)) in specifier, "test_connections.py has not been run with this one"
    assert pinned in specifier
    assert Version(f"{pinned.major}.{pinned.minor + 1}") not in specifier, "an untested minor"


@pytest.mark.parametrize(
    ("base", "names"),
    [
        (FileResponse, {"_open_file"}),
        (
            H11Protocol,
            {
                "_unset_keepalive_if_required",
                "_unsupported_upgrade_warning",
                "connection_lost",
                "connection_made",
                "data_received",
                "handle_events",
                "on_response_complete",
                "pause_writing",
                "resume_writing",
                "shutdown",
            },
        ),
        (h11.Connection, {"next_event", "their_state", "trailing_data"}),
        (uvicorn.Server, {"capture_signals", "on_tick", "startup"}),
    ],
)
def test_what_is_overridden_or_called_is_still_there(base: type, names: set[str]) -> None:
    assert names <= set(dir(base))


def test_uvicorn_counts_connections_and_requests_where_the_registry_does() -> None:
    assert {"connections", "total_requests"} <= set(vars(ServerState()))
