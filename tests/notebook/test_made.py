"""The cell and the notebook are what the sources give, and small enough to be pasted."""

import base64
import io
import lzma
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tools.make_colab import CELL, MAX_CELL_BYTES, NOTEBOOK, ROOT, made, package_archive


def test_both_are_current_and_the_same_sources_give_the_same_bytes() -> None:
    for path, text in made().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run make colab"


def test_check_notices_a_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import sys; from tools import make_colab as m; from pathlib import Path; "
    code += "m.NOTEBOOK = Path(sys.argv[2]); m.ROOT = m.NOTEBOOK.parent; "
    code += "m.made = lambda: {m.NOTEBOOK: 'made'}; m.main()"
    monkeypatch.chdir(ROOT)
    for text, said in (("made", ""), ("altered", "error: file is not current: run make colab\n")):
        (tmp_path / "file").write_text(text, encoding="utf-8")
        command = [sys.executable, "-c", code, "--check", str(tmp_path / "file")]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (1 if said else 0, said)


def test_the_cell_has_room_to_grow() -> None:
    assert CELL.stat().st_size <= MAX_CELL_BYTES


@pytest.mark.parametrize("path", [CELL, NOTEBOOK], ids=lambda path: path.name)
def test_they_carry_every_file_of_the_package(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    quoted = (
        r'PACKAGE = """\n(.*?)"""'
        if path == CELL
        else r'"PACKAGE = \\"\\"\\"\\n",(.*?)"\\"\\"\\"\\n",'
    )
    found = re.search(quoted, text, re.DOTALL)
    assert found
    lines = re.findall(r'"(.*?)\\n"', found[1]) if path == NOTEBOOK else found[1].split()
    data = lzma.decompress(base64.b85decode("".join(lines)))
    assert data == package_archive()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        carried = {name for name in archive.namelist() if name.startswith("omega21/")}
        assert {entry.date_time[0] for entry in archive.infolist()} == {1980}
    sources = {
        str(file.relative_to(ROOT / "src"))
        for file in (ROOT / "src" / "omega21").rglob("*")
        if file.is_file() and "__pycache__" not in file.parts and file.suffix != ".po"
    }
    assert carried == sources
