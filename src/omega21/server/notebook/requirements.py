"""The packages that a server needs, and their installation.

The ranges are those of the package's metadata. torch and numpy are never installed or changed: a
notebook's builds match its GPU and its other packages.
"""

import importlib
import re
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Final, NamedTuple

from omega21.language import _
from omega21.server.notebook.problem import CannotServe

NEVER_CHANGED: Final = ("torch", "numpy")
_HELD: Final = (*NEVER_CHANGED, "torchvision", "torchaudio")
_CLIENTS_ALONE: Final = frozenset({"platformdirs", "rich", "typer"})
_REQUIREMENT = re.compile(
    r"(?P<name>[\w.-]+)(?:\[[^]]*\])?\s*(?P<range>[^;]*?)\s*(?:;.*extra == '(?P<extra>\w+)')?"
)
_BOUND = re.compile(r"(>=|<)\s*(\d+(?:\.\d+)*)")


class Requirement(NamedTuple):
    """A distribution and its range, such as `fastapi` and `<1,>=0.165`."""

    name: str
    range: str

    def __str__(self) -> str:
        return self.name + self.range


def server_requirements(*extras: str) -> list[Requirement]:
    """Return the requirements of a server and of the given extras."""
    wanted = {None, "server", *extras}
    found = [_REQUIREMENT.fullmatch(line) for line in requires("omega21") or []]
    return [
        Requirement(match["name"], match["range"])
        for match in found
        if match and match["extra"] in wanted and match["name"].lower() not in _CLIENTS_ALONE
    ]


def lacking(requirements: list[Requirement]) -> list[Requirement]:
    """Return those that are not installed, or have a version outside their range."""
    return [wanted for wanted in requirements if not is_in_range(_installed(wanted), wanted.range)]


def is_in_range(installed: str | None, wanted: str) -> bool:
    """Whether a version is in a range of `>=` and `<` bounds; False without a version."""
    if installed is None:
        return False
    have = _numbers(installed)
    return all(
        have >= _numbers(bound) if operator == ">=" else have < _numbers(bound)
        for operator, bound in _BOUND.findall(wanted)
    )


def _numbers(text: str) -> tuple[int, ...]:
    """Return the release numbers of a version, such as (2, 13) for 2.13.0+cpu."""
    release = re.match(r"\d+(?:\.\d+)*", text)
    numbers = [int(part) for part in release[0].split(".")] if release else [0]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def _installed(wanted: Requirement) -> str | None:
    try:
        return version(wanted.name)
    except PackageNotFoundError:
        return None


def install_lacking(*extras: str, log: Path) -> list[str]:
    """Install the missing requirements; return their names. Raises CannotServe.

    pip's output goes to `log`.
    """
    missing = lacking(server_requirements(*extras))
    for wanted in missing:
        if wanted.name in NEVER_CHANGED:
            raise CannotServe(_no_torch(wanted))
    if missing:
        _install(missing, log)
        importlib.invalidate_caches()
    return [wanted.name for wanted in missing]


def _no_torch(wanted: Requirement) -> str:
    there = _installed(wanted)
    if there is None:
        return _(
            "{name} is not installed here, and this cell does not install it; choose a runtime "
            "that has it, or: pip install '{wanted}'"
        ).format(name=wanted.name, wanted=wanted)
    return _(
        "{name} {version} is here, and {wanted} is needed; choose a newer runtime: this cell never "
        "changes it"
    ).format(name=wanted.name, version=there, wanted=wanted)


def _install(missing: list[Requirement], log: Path) -> None:
    held = [f"{name}=={there}" for name in _HELD if (there := _installed(Requirement(name, "")))]
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder) / "constraints.txt"
        constraints.write_text("\n".join(held), encoding="utf-8")
        command = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--no-input",
            "--no-color",
            "--progress-bar",
            "off",
        ]
        command += ["--disable-pip-version-check", "--constraint", str(constraints)]
        done = subprocess.run(
            [*command, *map(str, missing)],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )
    log.write_text(done.stdout, encoding="utf-8")
    if done.returncode:
        raise CannotServe(_why_not(done.stdout, missing, log))


_NO_NETWORK = re.compile(
    r"NewConnectionError|NameResolutionError|ConnectTimeout|ProxyError|Max retries|"
    r"Temporary failure in name resolution|Network is unreachable"
)


def _why_not(output: str, missing: list[Requirement], log: Path) -> str:
    names = ", ".join(wanted.name for wanted in missing)
    if _NO_NETWORK.search(output):
        return _(
            "{names} cannot be installed without a network; give this notebook access to the "
            "internet (on Kaggle: Settings, Internet) and run the cell again"
        ).format(names=names)
    if "No space left on device" in output:
        return _("the disk is full: {names} cannot be installed; free some of it").format(
            names=names
        )
    errors = [line for line in output.splitlines() if line.startswith("ERROR:")]
    reason = (errors or output.strip().splitlines() or ["pip said nothing"])[-1]
    return _("{names} cannot be installed: {reason}; pip's output is in {log}").format(
        names=names, reason=reason.removeprefix("ERROR: "), log=log
    )
