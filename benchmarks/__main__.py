"""`make bench`: every benchmark, a table each, and a bar that is missed as exit status 1."""

import sys
from pathlib import Path

from benchmarks import checkpointing, learning

RESULTS = Path(__file__).with_name("results")


def main() -> int:
    """Run the benchmarks; return 0 when every bar is met."""
    RESULTS.mkdir(exist_ok=True)
    learns = learning.main(["--json", str(RESULTS / "learning.json")])
    saves = checkpointing.main(["--json", str(RESULTS / "checkpointing.json")])
    return max(learns, saves)


if __name__ == "__main__":
    sys.exit(main())
