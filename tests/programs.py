"""Programs of the system that some tests need: nginx, Chromium.

On a person's machine a test without its program is skipped and says so by name; where OMEGA21_CI
is set, that is a failure.
"""

import os
import shutil

import pytest

INSTALL_HINT = "install it with .ci/programs, as root on Debian"


def require_program(name: str) -> str:
    """Return the path of a program, or skip the test; in CI, fail it."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if path is not None:
        return path
    reason = f"{name} is not installed; {INSTALL_HINT}"
    if os.environ.get("OMEGA21_CI"):
        pytest.fail(reason)
    pytest.skip(reason)
