"""The generated references are what the code says now."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.markdown import ROOT

GENERATORS = sorted(ROOT.glob("docs/generate_*.py"))


@pytest.mark.parametrize("generator", GENERATORS, ids=lambda path: path.stem)
def test_a_generated_reference_is_current(generator: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(generator), "--check"], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
