"""`omega21 doctor`: each check, where it is well and where something is wrong."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from omega21.cli.app import run
from omega21.client.known_servers import remember
from tests.cli.conftest import TOKEN
from tests.nginx import Nginx, start_nginx
from tests.servers import RunningServer

LOCAL = ["python", "packages", "disk"]
REMOTE = [
    "address", "name", "tls", "tunnel", "token", "versions", "identity", "clock", "gpu", "memory",
    "self-test", "server disk", "round trip", "rate", "quota",
]  # fmt: skip
BEYOND_TOKEN = set(REMOTE) - {"address", "name", "tls", "tunnel", "token", "round trip"}


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("COLAB_SERVER_URL", "OMEGA21_TOKEN", "OMEGA21_CA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMEGA21_SERVERS", str(tmp_path / "servers"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def proxy(server: RunningServer, tmp_path: Path) -> Iterator[Nginx]:
    with start_nginx(tmp_path / "nginx", server.port) as running:
        yield running


class Doctor:
    """Runs the command and keeps what it said."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str | Path) -> dict[str, dict[str, Any]]:
        self.status = run(["doctor", "--json", "--workdir", "w", *map(str, arguments)])
        out, self.shown = self._capsys.readouterr()
        checks = json.loads(out)["checks"]
        assert [check["name"] for check in checks] == LOCAL + REMOTE
        assert json.loads(out)["ok"] == (self.status == 0)
        for check in checks:
            assert bool(check["advice"]) == (check["state"] in {"warning", "failed"}), check
        self.checks = {check["name"]: check for check in checks}
        return self.checks

    def with_state(self, state: str) -> set[str]:
        return {name for name, check in self.checks.items() if check["state"] == state}


@pytest.fixture
def doctor(capsys: pytest.CaptureFixture[str]) -> Doctor:
    return Doctor(capsys)


def test_a_server_behind_tls_that_is_well(proxy: Nginx, doctor: Doctor) -> None:
    checks = doctor(proxy.address, "--token", TOKEN, "--ca", proxy.ca)

    assert doctor.status == 0
    assert doctor.with_state("failed") == set()
    assert doctor.with_state("not checked") == {"memory"}  # there is no GPU to have it
    assert "gpu" in doctor.with_state("warning")
    assert checks["tls"]["found"].startswith("TLSv1.")
    assert checks["packages"]["figures"]["httpx"]
    assert abs(checks["clock"]["figures"]["seconds"]) < 30
    assert checks["round trip"]["figures"]["seconds"] > 0
    assert checks["rate"]["figures"]["up_bytes_per_second"] > 0
    assert checks["rate"]["figures"]["down_bytes_per_second"] > 0
    assert TOKEN not in doctor.shown
    assert "-> " in doctor.shown


def test_without_an_address_this_machine_alone(doctor: Doctor) -> None:
    doctor()
    assert doctor.status == 0
    assert doctor.with_state("not checked") == set(REMOTE)


def test_the_server_used_last_is_looked_at(server: RunningServer, doctor: Doctor) -> None:
    remember(server.address, token=TOKEN, server_id="0" * 32)
    checks = doctor()
    assert checks["address"]["found"] == server.address
    assert checks["identity"]["state"] == "warning"
    assert "another server than last time" in checks["identity"]["found"]

    remember(server.address, token=TOKEN, server_id=checks["identity"]["figures"]["server_id"])
    assert doctor()["identity"]["state"] == "ok"


@pytest.mark.parametrize(
    ("arguments", "failed", "status"),
    [
        (["ftp://example.org"], "address", 13),
        (["http://gpu.example:8000", "--token", "secret"], "address", 13),
        (["https://nowhere.invalid"], "name", 71),
        (["http://127.0.0.1:1"], "tls", 71),
    ],
)
def test_a_server_that_is_not_there(
    arguments: list[str], failed: str, status: int, doctor: Doctor
) -> None:
    doctor(*arguments)
    assert doctor.status == status
    assert doctor.with_state("failed") == {failed}
    assert doctor.with_state("not checked") == set(REMOTE[REMOTE.index(failed) + 1 :])


def test_a_certificate_that_nobody_vouches_for(proxy: Nginx, doctor: Doctor) -> None:
    checks = doctor(proxy.address, "--token", TOKEN)
    assert doctor.status == 73
    assert "--ca FILE" in checks["tls"]["advice"]
    assert "GET" not in proxy.log


def test_a_token_of_another_server(proxy: Nginx, doctor: Doctor) -> None:
    doctor(proxy.address, "--token", "guess", "--ca", proxy.ca)
    assert doctor.status == 18
    assert doctor.with_state("failed") == {"token"}
    assert doctor.with_state("not checked") == BEYOND_TOKEN


_OFFLINE = "add_header ngrok-error-code ERR_NGROK_3200 always; return 404 '<html>';"
_USED_UP = "add_header ngrok-error-code ERR_NGROK_725 always; return 402 '<html>';"


@pytest.mark.parametrize(
    ("answer", "status"),
    [(_OFFLINE, 67), (_USED_UP, 68), ("return 502 '<html>';", 71), ("return 200 '<html>';", 73)],
    ids=["offline", "used up", "server down", "router"],
)
def test_a_tunnel_that_leads_nowhere(
    answer: str, status: int, proxy: Nginx, doctor: Doctor
) -> None:
    proxy.restart(locations=f"location = /health {{ default_type text/html; {answer} }}")
    doctor(proxy.address, "--token", TOKEN, "--ca", proxy.ca)
    assert doctor.status == status
    assert doctor.with_state("failed") == {"tunnel"}
    assert TOKEN not in proxy.log


# What the server says in its status, changed on the way to what it would say elsewhere.
_CHANGED = """
location = /status {{
    proxy_pass http://127.0.0.1:{port};
    proxy_set_header Accept-Encoding "";
    sub_filter_types application/json;
    sub_filter '{before}' '{after}';
}}
"""


@pytest.mark.parametrize(
    ("before", "after", "check", "state", "status"),
    [
        ('"clock":1', '"clock":2', "clock", "warning", 0),
        ('"disk_free":', '"disk_free":1, "x":', "server disk", "failed", 51),
        ('"device_memory_total":null,"device_memory_free":null',
         '"device_memory_total":9,"device_memory_free":1', "memory", "warning", 0),
        ('"requests_left":null,"bytes_left":null', '"requests_left":9,"bytes_left":9', "quota",
         "warning", 0),
        ('"requests_left":null,"bytes_left":null', '"requests_left":9,"bytes_left":0', "quota",
         "failed", 68),
    ],
    ids=["clock", "disk", "memory", "little quota", "no quota"],
)  # fmt: skip
def test_what_the_server_tells_of_itself_is_judged(
    before: str,
    after: str,
    check: str,
    state: str,
    status: int,
    server: RunningServer,
    proxy: Nginx,
    doctor: Doctor,
) -> None:
    proxy.restart(locations=_CHANGED.format(port=server.port, before=before, after=after))
    checks = doctor(proxy.address, "--token", TOKEN, "--ca", proxy.ca)
    assert checks[check]["state"] == state, checks[check]
    assert doctor.status == status


def test_a_disk_without_room_here(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    full = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr("omega21.client.diagnostics.local_checks.shutil.disk_usage", lambda _: full)
    assert doctor()["disk"]["state"] == "failed"
    assert doctor.status == 51


def test_people_are_shown_each_check_and_a_verdict(
    server: RunningServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["doctor", server.address, "--token", TOKEN]) == 0
    out, err = capsys.readouterr()
    lines = [line for line in out.splitlines() if not line.startswith(" ")]
    assert len(lines) >= len(LOCAL + REMOTE) + 1
    assert "it works, with" in lines[-1]
    assert err == ""
