"""What a notebook's machine lacks is named before a server is started."""

import os
import sys
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from omega21.server.notebook import machine, requirements
from omega21.server.notebook.cell import describe, prepare
from omega21.server.notebook.problem import CannotServe
from omega21.server.notebook.process import NotebookServer, ServerSettings
from omega21.server.tunnels import authtoken


def test_a_disk_with_too_little_room_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "LEAST_FREE_BYTES", 10**18)
    with pytest.raises(CannotServe, match=r"GB free, and a server needs .* GB; remove files"):
        machine.check_data_dir(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_mounted_drive_is_no_place_for_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    # A drive cannot be mounted here; what is mounted here stands for one.
    monkeypatch.setattr(machine, "_REMOTE_KINDS", ("proc",))
    with pytest.raises(CannotServe, match=r"/proc/omega21 is on a mounted drive \(proc\)"):
        machine.check_data_dir(Path("/proc/omega21"))


def test_a_notebook_without_a_gpu_is_told_so_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("OMEGA21_TOKEN", raising=False)
    settings = prepare(tunnel="none", data_dir=str(tmp_path / "data"), language="en")
    assert "no GPU here: steps are computed on the CPU" in capsys.readouterr().out

    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(0o755)
    prepare(tunnel="none", data_dir=str(tmp_path / "data"), language="en")
    assert capsys.readouterr().out == ""
    assert settings.token == (tmp_path / "data" / "token").read_text().strip()
    assert settings.token not in " ".join(settings.arguments())


# --- what is installed ---


@pytest.mark.parametrize(
    ("installed", "wanted", "is_in"),
    [
        ("2.13.0+cpu", "<3,>=2.5", True),
        ("2.5", "<3,>=2.5.0", True),
        ("2.4.1", "<3,>=2.5", False),
        ("3.0", "<3,>=2.5", False),
        ("0.100.1", "<1,>=0.22", True),
        ("1.26.0rc1", "<3,>=1.26", True),
        ("1.0", "", True),
        (None, ">=1", False),
    ],
)
def test_a_version_lies_in_a_range_or_not(installed: str | None, wanted: str, is_in: bool) -> None:
    assert requirements.is_in_range(installed, wanted) is is_in


def test_the_ranges_are_those_of_the_package_and_all_can_be_read() -> None:
    wanted = {one.name: one.range for one in requirements.server_requirements("tunnel")}
    assert {"torch", "numpy", "fastapi", "uvicorn", "pydantic", "httpx", "ngrok"} <= set(wanted)
    assert not {"typer", "rich", "mkdocs", "pytest"} & set(wanted)
    for name, text in wanted.items():
        assert requirements.is_in_range(version(name), text), name
        bounds = [bound for bound in text.split(",") if bound]
        assert len(requirements._BOUND.findall(text)) == len(bounds), (name, text)


@pytest.mark.parametrize("name", requirements.NEVER_CHANGED)
def test_torch_and_numpy_are_never_installed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there: dict[str, str | None] = {}

    def installed(wanted: requirements.Requirement) -> str | None:
        return there.get(wanted.name, version(wanted.name))

    monkeypatch.setattr(requirements, "_installed", installed)
    for found, said in ((None, "is not installed here"), ("0.1", "0.1 is here, and")):
        there[name] = found
        with pytest.raises(CannotServe, match=f"{name} {said}"):
            requirements.install_lacking(log=tmp_path / "pip.log")
    assert not (tmp_path / "pip.log").exists()


# --- ngrok's token ---


class _NoSecret(Exception):
    """Stands for the two errors of Colab's secrets."""


def colab(monkeypatch: pytest.MonkeyPatch, secrets: dict[str, str]) -> None:
    """Make this process look like Colab's kernel, at the edge of its secrets."""

    def get(name: str) -> str:
        if name not in secrets:
            raise _NoSecret
        return secrets[name]

    userdata: Any = SimpleNamespace(
        get=get, SecretNotFoundError=_NoSecret, NotebookAccessError=_NoSecret
    )
    monkeypatch.setitem(sys.modules, "google.colab", SimpleNamespace(userdata=userdata))
    monkeypatch.setitem(sys.modules, "google.colab.userdata", userdata)


def test_ngroks_token_comes_from_the_environment_or_colabs_secrets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(authtoken.VARIABLE, raising=False)
    assert authtoken.find_authtoken() is None
    colab(monkeypatch, {})
    assert authtoken.find_authtoken() is None
    colab(monkeypatch, {authtoken.VARIABLE: " of-the-secrets\n"})
    assert authtoken.find_authtoken() == "of-the-secrets"
    monkeypatch.setenv(authtoken.VARIABLE, "of-the-environment")
    assert authtoken.find_authtoken() == "of-the-environment"


def test_nobody_is_asked_where_nobody_is_there() -> None:
    with Path(os.devnull).open() as nobody, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", nobody)
        assert authtoken.ask_authtoken() is None


# --- the status line ---


def run(name: str, state: str, step: int, steps: int) -> dict[str, object]:
    return {"run": name, "state": state, "step": step, "plan_steps": steps}


@pytest.mark.parametrize(
    ("runs", "line"),
    [
        (None, "the server is restarting"),
        ([run("default", "idle", 0, 0)], "waiting for a run"),
        ([run("a", "training", 3, 10)], "a: training, step 3 of 10"),
        (
            [run("a", "idle", 10, 10), run("b", "waiting", 0, 4), run("c", "paused", 1, 9)],
            "b: waiting, step 0 of 4 (and 2 more)",
        ),
    ],
)
def test_the_status_line_tells_of_the_run_that_works(
    runs: list[dict[str, object]] | None, line: str
) -> None:
    assert describe(None if runs is None else {"runs": runs}) == line


def test_a_choice_that_there_is_not_is_named(tmp_path: Path) -> None:
    settings = ServerSettings(data_dir=tmp_path, token="a-token", tunnel="tin-can")
    with pytest.raises(CannotServe, match="argument --tunnel: invalid choice: 'tin-can'"):
        NotebookServer(settings)
