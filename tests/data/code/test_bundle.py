"""The source of a model: which files belong to it, and what is refused by name."""

import os
from pathlib import Path

import pytest

from omega21.data.code.bundle import CodeBundle, prepare_code
from omega21.protocol.errors import InvalidCode

BUILD = "def build(schema):\n    return None\n"


def write(folder: Path, files: dict[str, str]) -> Path:
    """Write files by their path."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def names(bundle: CodeBundle) -> list[str]:
    """The paths of a bundle."""
    return [name for name, _size in bundle.file_sizes()]


@pytest.mark.parametrize(
    "line",
    [
        "import helpers",
        "import helpers as h",
        "from helpers import f",
        "from . import helpers",
        "from .helpers import f",
        "try:\n    import helpers\nexcept ImportError:\n    pass",
        "if True:\n    from helpers import *",
        "def later():\n    import helpers",
        "class A:\n    import helpers",
    ],
)
def test_a_module_beside_is_found(tmp_path: Path, line: str) -> None:
    write(tmp_path, {"net.py": f"{line}\n{BUILD}", "helpers.py": "raise SystemExit", "o.py": ""})
    bundle = prepare_code(f"{tmp_path}/net.py:build")
    assert bundle.entry == "net:build"
    assert names(bundle) == ["helpers.py", "net.py"]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("import a.b.c", ["a/__init__.py", "a/b/__init__.py", "a/b/c.py"]),
        ("from a import b", ["a/__init__.py", "a/b/__init__.py"]),
        ("from a.b import c", ["a/__init__.py", "a/b/__init__.py", "a/b/c.py"]),
        ("from a.b.c import f", ["a/__init__.py", "a/b/__init__.py", "a/b/c.py"]),
        ("from a.up import x", ["a/__init__.py", "a/b/__init__.py", "a/b/c.py", "a/up.py"]),
        ("import plain.m", ["plain/m.py"]),
        ("from plain import m", ["plain/m.py"]),
        ("import torch, os.path, json", []),
    ],
)
def test_packages_are_followed(tmp_path: Path, line: str, found: list[str]) -> None:
    write(
        tmp_path,
        {
            "net.py": f"{line}\n{BUILD}",
            "a/__init__.py": "",
            "a/b/__init__.py": "",
            "a/b/c.py": "from ... import beyond\nfrom .. import up as _\n" if found == [] else "",
            "a/up.py": "from .b.c import f",
            "a/other.py": "",
            "plain/m.py": "",
        },
    )
    assert names(prepare_code(f"{tmp_path}/net.py:build")) == sorted([*found, "net.py"])


def test_a_module_in_a_package_brings_its_packages(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "nets/__init__.py": "from .layers import Layer",
            "nets/small.py": "from . import layers\n" + BUILD,
            "nets/layers.py": "from ..shared import x",
            "shared.py": "",
        },
    )
    by_name = prepare_code("nets.small:build", folder=tmp_path)
    assert by_name.entry == "nets.small:build"
    assert names(by_name) == ["nets/__init__.py", "nets/layers.py", "nets/small.py", "shared.py"]


def test_a_circle_of_imports_ends(tmp_path: Path) -> None:
    write(tmp_path, {"net.py": "import other\n" + BUILD, "other.py": "import net"})
    assert names(prepare_code(f"{tmp_path}/net.py:build")) == ["net.py", "other.py"]


def test_equal_sources_are_equal_whatever_the_folder_and_its_times(tmp_path: Path) -> None:
    first, second = (write(tmp_path / n, {"net.py": BUILD, "m.txt": "x"}) for n in "ab")
    os.utime(second / "net.py", (1, 1))
    one, other = (prepare_code(f"{f}/net.py:build", include=["*.txt"]) for f in (first, second))
    assert one.sha256 == other.sha256
    assert one.body == other.body
    write(second, {"m.txt": "y"})
    assert prepare_code(f"{second}/net.py:build", include=["*.txt"]).sha256 != one.sha256


def test_data_files_are_included_and_gitignore_is_heeded(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "net.py": BUILD,
            ".gitignore": "secret.txt\nbuild/\n",
            "data/.gitignore": "*.tmp\n",
            "data/words.txt": "a",
            "data/old.tmp": "a",
            "secret.txt": "a",
            "build/x.txt": "a",
            ".venv/y.txt": "a",
            "json/z.txt": "a",
        },
    )
    bundle = prepare_code(f"{tmp_path}/net.py:build", include=["**/*.txt", "data/*"])
    assert names(bundle) == ["data/words.txt", "json/z.txt", "net.py"]
    with pytest.raises(InvalidCode, match=r"--include secret\.txt: no file"):
        prepare_code(f"{tmp_path}/net.py:build", include=["secret.txt"])


def test_more_than_the_limit_is_refused_with_the_list(tmp_path: Path) -> None:
    write(tmp_path, {"net.py": BUILD, "big.bin": "x" * 3_000_000, "b.bin": "x" * 1000})
    with pytest.raises(InvalidCode) as refused:
        prepare_code(f"{tmp_path}/net.py:build", include=["*.bin"])
    assert "big.bin 3.0 MB, b.bin 1.0 kB, net.py" in refused.value.message
    assert refused.value.hint.endswith("--code-limit 3MB")
    whole = prepare_code(f"{tmp_path}/net.py:build", include=["*.bin"], limit=3 * 2**20)
    assert whole.size == 3_001_000 + len(BUILD)


@pytest.mark.parametrize(
    ("model", "files", "said"),
    [
        ("net.py", {"net.py": BUILD}, "'net.py' names no function"),
        ("gone.py:build", {}, "there is no file .*gone.py"),
        ("gone.net:build", {}, "there is no file .*gone.net"),
        ("net.py:make", {"net.py": BUILD}, r"net\.py has no function 'make'"),
        ("net.py:build", {"net.py": "x = 1\ndef build(:\n"}, r"net\.py:2: syntax error"),
        (
            "net.py:build",
            {"net.py": "import m\n" + BUILD, "m.py": "\n\nif"},
            r"m\.py:3: syntax error",
        ),
        ("net.py:build", {"net.py": "import json\n" + BUILD, "json.py": ""}, "the module json"),
        ("net.py:build", {"net.py": "import torch\n" + BUILD, "torch.py": ""}, "the module torch"),
        (
            "net.py:build",
            {"net.py": "import omega21\n" + BUILD, "omega21/__init__.py": ""},
            "the module omega21",
        ),
        ("queue.py:build", {"queue.py": BUILD}, "would replace the module queue"),
        ("my-net.py:build", {"my-net.py": BUILD}, "is no module name"),
    ],
)
def test_what_cannot_be_sent_is_named(
    tmp_path: Path, model: str, files: dict[str, str], said: str
) -> None:
    write(tmp_path, files)
    with pytest.raises(InvalidCode, match=said):
        prepare_code(model, folder=tmp_path)


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_bytes(b"\x00\xff\x00")
    with pytest.raises(InvalidCode, match=r"net\.py:1: "):
        prepare_code("net.py:build", folder=tmp_path)


@pytest.mark.parametrize("where", ["helpers.py", "a"])
def test_a_link_is_refused(tmp_path: Path, where: str) -> None:
    outside = write(tmp_path / "out", {"secret.py": "", "a/__init__.py": ""})
    root = write(tmp_path / "in", {"net.py": f"import {where.removesuffix('.py')}\n{BUILD}"})
    (root / where).symlink_to(outside / ("a" if where == "a" else "secret.py"))
    with pytest.raises(InvalidCode, match="is a link"):
        prepare_code("net.py:build", folder=root)


HEADER = '# /// script\n# dependencies = [\n#   "einops>=0.7",\n#   "a",\n# ]\n# ///\n'


def test_requirements_are_read_from_the_header(tmp_path: Path) -> None:
    write(tmp_path, {"net.py": '"""Net."""\n' + HEADER + BUILD})
    bundle = prepare_code("net.py:build", folder=tmp_path)
    assert bundle.requirements == ("a", "einops>=0.7")
    again = CodeBundle.of_body(bundle.body, entry=bundle.entry, sha256=bundle.sha256)
    assert again == bundle


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("# /// script\n# dependencies = [\n# ///\n", r"net\.py:1: the PEP 723 header"),
        ("# /// script\n# dependencies = 3\n# ///\n", "is not a list of texts"),
        (HEADER + "\n" + HEADER, "there are two of them"),
        (HEADER.replace("einops>=0.7", "--index-url=x"), "is not a requirement"),
        (HEADER.replace("einops>=0.7", "./folder"), "is not a requirement"),
    ],
)
def test_a_wrong_header_is_named(tmp_path: Path, header: str, said: str) -> None:
    write(tmp_path, {"net.py": header + BUILD})
    with pytest.raises(InvalidCode, match=said):
        prepare_code("net.py:build", folder=tmp_path)
