"""Names the tests of what changed since the branch left `main`, for `make quick`.

A module `src/omega21/a/b.py` has its tests in `tests/a/test_b.py`; a changed test is its own. With
them goes a core that every change has to leave standing. Modules without a file of their own are
named on standard error: `make test` runs what covers them.
"""

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[1]
CORE = ("tests/test_architecture.py", "tests/protocol/test_plan.py")


def changed(root: Path, base: str = "main") -> list[str]:
    """Return what differs from where the branch left `base`, and what git does not know yet."""
    start = _git(root, "merge-base", base, "HEAD")
    return sorted(
        {
            *_git(root, "diff", "--name-only", "--diff-filter=d", start).splitlines(),
            *_git(root, "ls-files", "--others", "--exclude-standard").splitlines(),
        }
    )


def mirrors(paths: Iterable[str], root: Path) -> tuple[list[str], list[str]]:
    """Return the test files for some paths, and the modules among them that have none."""
    tests, without = set(), []
    for path in map(PurePosixPath, paths):
        if path.suffix != ".py":
            continue
        if path.is_relative_to("src/omega21"):
            folder = PurePosixPath("tests") / path.relative_to("src/omega21").parent
            mirror = folder / f"test_{path.stem}.py"
            if (root / mirror).exists():
                tests.add(str(mirror))
            elif path.stem != "__init__":
                without.append(str(path))
        elif path.is_relative_to("tests") and path.name.startswith("test_"):
            tests.add(str(path))
    return sorted(tests), without


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, check=True, capture_output=True, encoding="utf-8").stdout.strip()


def main() -> None:
    """Print the tests, one a line; `changed_tests.py BRANCH` compares with another branch."""
    tests, without = mirrors(changed(ROOT, *sys.argv[1:]), ROOT)
    if without:
        print("without a test file of their own:", *without, sep="\n  ", file=sys.stderr)
    print(*sorted({*tests, *CORE}), sep="\n")


if __name__ == "__main__":
    main()
