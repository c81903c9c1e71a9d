"""Generates COLAB_SERVER_OMEGA21_V4_UNIFICADO.py and notebooks/omega21_colab.ipynb: `make colab`.

Both contain the files of the wheel. Equal sources give equal bytes: entries are sorted and have no
dates. `--check` writes nothing, and fails when either file is out of date.
"""

import base64
import hashlib
import io
import json
import lzma
import re
import sys
import tempfile
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parents[1]
TEMPLATES = Path(__file__).parent / "colab"
CELL = ROOT / "COLAB_SERVER_OMEGA21_V4_UNIFICADO.py"
NOTEBOOK = ROOT / "notebooks" / "omega21_colab.ipynb"
MAX_CELL_BYTES = 600_000

_PLACE = "# === the package ===\n"
_LINE = 120
_BLOCK = re.compile(r"^```python\n(.*?)^```\n", re.MULTILINE | re.DOTALL)


def package_archive() -> bytes:
    """Return the files of the wheel as a zip archive without compression, without dates."""
    with tempfile.TemporaryDirectory() as folder:
        (wheel,) = WheelBuilder(str(ROOT)).build(directory=folder, versions=["standard"])
        with zipfile.ZipFile(wheel) as source:
            files = {name: source.read(name) for name in source.namelist()}
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as target:
        for name, data in sorted(files.items()):
            if not name.endswith("/RECORD"):  # its digests repeat those of the archive
                target.writestr(zipfile.ZipInfo(name), data)
    return archive.getvalue()


def unpacking(archive: bytes) -> str:
    """Return the code that contains the package and unpacks it."""
    data = lzma.compress(archive, preset=9 | lzma.PRESET_EXTREME)
    text = base64.b85encode(data).decode("ascii")
    lines = [text[start : start + _LINE] for start in range(0, len(text), _LINE)]
    code = (TEMPLATES / "unpack.py").read_text(encoding="utf-8")
    code = code.replace("@SHA256@", hashlib.sha256(data).hexdigest())
    return code.replace("@PACKAGE@", "\n".join(lines))


def cell(unpack: str) -> str:
    """Return the one cell."""
    text = (TEMPLATES / "cell.py").read_text(encoding="utf-8")
    return text.replace("@VERSION@", version("omega21")).replace(_PLACE, unpack + "\n")


def notebook(unpack: str) -> str:
    """Return the notebook: a cell for each block of code and each text of the page."""
    page = (TEMPLATES / "notebook.md").read_text(encoding="utf-8")
    cells: list[dict[str, Any]] = []
    for number, part in enumerate(_BLOCK.split(page)):
        text = part.replace(_PLACE, unpack + "\n").strip()
        if text:
            cells.append(_notebook_cell(len(cells), text, is_code=number % 2 == 1))
    document = {
        "cells": cells,
        "metadata": {
            "accelerator": "GPU",
            "colab": {"gpuType": "T4", "provenance": []},
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _notebook_cell(number: int, text: str, *, is_code: bool) -> dict[str, Any]:
    common = {"id": f"cell-{number}", "metadata": {}, "source": text.splitlines(keepends=True)}
    if not is_code:
        return {"cell_type": "markdown", **common}
    if "unpack_omega21" in text:
        common["metadata"] = {"cellView": "form"}
    return {"cell_type": "code", **common, "execution_count": None, "outputs": []}


def made() -> dict[Path, str]:
    """Return both files as generated from the sources."""
    unpack = unpacking(package_archive())
    texts = {CELL: cell(unpack), NOTEBOOK: notebook(unpack)}
    size = len(texts[CELL].encode())
    if size > MAX_CELL_BYTES:
        sys.exit(f"error: the cell has {size} bytes, more than {MAX_CELL_BYTES}")
    return texts


def main() -> None:
    """Write both, or with `--check` compare them."""
    for path, text in made().items():
        if "--check" in sys.argv[1:]:
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                sys.exit(f"error: {path.relative_to(ROOT)} is not current: run make colab")
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
