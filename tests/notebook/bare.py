"""A Python that has torch, numpy and a notebook's kernel, and nothing else of what omega21 needs.

Packages come from this environment, without the network: those that a notebook has are links to
its files, and those that a cell installs are wheels made of its files, which the real pip finds
where `PIP_FIND_LINKS` says.
"""

import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

THERE = ("torch", "numpy", "ipykernel", "matplotlib")
INSTALLED = (
    "fastapi",
    "filelock",
    "httpx",
    "prometheus-client",
    "pydantic",
    "safetensors",
    "uvicorn",
    "pathspec",
    "zstandard",
)


@dataclass(frozen=True)
class BarePython:
    """A virtual environment, and the wheels that it may install."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "venv" / "bin" / "python"

    @property
    def wheels(self) -> Path:
        return self.folder / "wheels"

    @property
    def environment(self) -> dict[str, str]:
        """What makes pip install from `wheels` alone."""
        return {
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.wheels),
            "PIP_CONFIG_FILE": "/dev/null",
        }

    def has(self, name: str) -> bool:
        """Whether a module can be imported there."""
        found = subprocess.run(
            [self.python, "-c", f"import {name}"], check=False, capture_output=True
        )
        return found.returncode == 0

    def add_kernel(self, jupyter: Path) -> str:
        """Make it a kernel in a folder of Jupyter's data; its name."""
        spec = jupyter / "kernels" / "bare"
        spec.mkdir(parents=True)
        command = [str(self.python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        kernel = {"argv": command, "display_name": "bare", "language": "python"}
        (spec / "kernel.json").write_text(json.dumps(kernel), encoding="utf-8")
        return "bare"


def make_bare_python(folder: Path) -> BarePython:
    """Make the environment and the wheels."""
    bare = BarePython(folder)
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    given = folder / "given"
    given.mkdir()
    there = closure(THERE)
    for found in there.values():
        link(found, given)
    (site,) = (folder / "venv" / "lib").glob("python*/site-packages")
    (site / "given.pth").write_text(f"{given}\n", encoding="utf-8")
    bare.wheels.mkdir()
    for name, found in closure(INSTALLED).items():
        if name not in there:
            make_wheel(found, bare.wheels)
    return bare


def closure(names: Iterable[str]) -> dict[str, Distribution]:
    """Return these distributions and all that they require here, by name."""
    found: dict[str, Distribution] = {}
    waiting = list(names)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            continue  # required on another platform
        for line in found[name].requires or []:
            wanted = Requirement(line)
            if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
                waiting.append(wanted.name)
    return found


def link(found: Distribution, folder: Path) -> None:
    """Link a distribution's folders and modules into `folder`."""
    for top in {path.parts[0] for path in files_of(found)}:
        place = folder / top
        source = Path(str(found.locate_file(top)))
        if not place.exists():
            place.symlink_to(source)
        elif place.is_symlink() and place.resolve() != source.resolve():
            raise AssertionError(f"{top} is of two distributions")


def files_of(found: Distribution) -> Iterator[Path]:
    """Return a distribution's files inside site-packages, without scripts and caches."""
    for path in found.files or []:
        if ".." not in path.parts and "__pycache__" not in path.parts:
            yield Path(str(path))


def make_wheel(found: Distribution, folder: Path) -> None:
    """Make a wheel of an installed distribution's files."""
    text = found.read_text("WHEEL")
    assert text is not None
    tag = re.findall(r"^Tag: (.+)$", text, re.MULTILINE)[0]
    name = re.sub(r"[-_.]+", "_", found.metadata["Name"])
    with zipfile.ZipFile(folder / f"{name}-{found.version}-{tag}.whl", "w") as wheel:
        for path in files_of(found):
            source = Path(str(found.locate_file(path)))
            if source.exists():  # pip leaves notes of its own
                wheel.write(source, str(path))


def add_module_wheel(folder: Path, name: str, version: str, source: str) -> None:
    """Make a wheel of one module, as the provider of a package would."""
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", source)
        wheel.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
