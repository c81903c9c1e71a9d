"""Requirements of a source: installed beside what the server has, none of which is moved."""

import base64
import hashlib
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

from omega21.engine.storage.requirements import Requirements
from omega21.protocol.errors import InstallFailed


def write_wheel(folder: Path, name: str, *, needs: str) -> Path:
    """Write a wheel of one module that requires another distribution."""
    info = f"{name}-1.0.dist-info"
    files = {
        f"{name}.py": "VALUE = 21\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
        f"Requires-Dist: {needs}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode()
        record += f"{path},sha256={digest.rstrip('=')},{len(text)}\n"
    files[f"{info}/RECORD"] = record + f"{info}/RECORD,,\n"
    wheel = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return wheel


@pytest.fixture
def requirements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Requirements:
    """Installs from a folder alone, as pip's own configuration says."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    return Requirements(tmp_path / "environments")


def test_what_is_missing_is_installed_and_nothing_else(
    requirements: Requirements, tmp_path: Path
) -> None:
    write_wheel(tmp_path, "omega_probe_a", needs="numpy")
    wanted = ("omega_probe_a>=1", "numpy")
    assert not requirements.has(wanted)
    requirements.install(wanted)
    assert requirements.has(wanted)
    place = requirements.path(wanted)
    assert (place / "omega_probe_a.py").read_text() == "VALUE = 21\n"
    assert not (place / "numpy").exists()
    assert requirements.path(("numpy", "omega_probe_a>=1")) == place
    requirements.close()


@pytest.mark.parametrize("needs", ["numpy<1", "pydantic==1.0"])
def test_what_the_server_runs_on_is_not_moved(
    requirements: Requirements, tmp_path: Path, needs: str
) -> None:
    before = version("numpy"), version("pydantic")
    write_wheel(tmp_path, "omega_probe_b", needs=needs)
    with pytest.raises(InstallFailed, match="pip cannot install the requirements: "):
        requirements.install(("omega_probe_b",))
    assert not requirements.has(("omega_probe_b",))
    assert (version("numpy"), version("pydantic")) == before
    requirements.close()


def test_pips_last_line_is_told(requirements: Requirements) -> None:
    with pytest.raises(InstallFailed, match="No matching distribution found for omega_probe_none"):
        requirements.install(("omega_probe_none",))
    assert requirements.has(())
    requirements.close()
