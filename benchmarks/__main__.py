"""`make bench`: every benchmark, a table each, and a bar that is missed as exit status 1.

    python -m benchmarks [--quick] [--only NAME …] [--write]

Each part runs in a process of its own, one after another, and writes results/NAME.json beside
this file. The whole takes about 20 minutes on two cores; --quick some 4, for a look at whether all
of it works: its figures are too short to be held against anything. Nothing else should run beside
it; the comparisons take turns within a run, so that what does run meets both sides. --write puts
the figures of the parts that ran into docs/performance.md.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks import page
from benchmarks.bars import machine

RESULTS = Path(__file__).with_name("results")
PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
PARTS: Final = (
    "start",
    "wire",
    "loopback",
    "over_link",
    "beside",
    "bystanders",
    "scale",
    "learning",
    "checkpointing",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks; return 0 when every bar is met."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short runs, for a look")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to run")
    parser.add_argument("--write", action="store_true", help=f"put the figures in {PAGE.name}")
    given = parser.parse_args(arguments)
    results = RESULTS / "quick" if given.quick else RESULTS
    results.mkdir(parents=True, exist_ok=True)
    print(f"on {json.dumps(machine())}\n", flush=True)
    broken = []
    for part in PARTS:
        if part in given.only:
            print(f"{part}", flush=True)
            started = time.monotonic()
            path = results / f"{part}.json"
            path.unlink(missing_ok=True)  # what is there is of this run
            command = [sys.executable, "-m", f"benchmarks.{part}", "--json", str(path)]
            subprocess.run([*command, *["--quick"] * given.quick], check=False)
            print(f"  {time.monotonic() - started:.0f} s\n", flush=True)
            broken += [part] * (not path.exists())
    if given.write:
        page.write(PAGE, [results / f"{part}.json" for part in PARTS if part in given.only])
    missed = [name for part in given.only for name in _missed(results / f"{part}.json")]
    print("\n".join(f"missed: {name}" for name in missed) or "every bar is met")
    print("\n".join(f"{part} broke; see above" for part in broken))
    return 1 if missed or broken else 0


def _missed(path: Path) -> list[str]:
    if not path.exists():
        return []
    bars = json.loads(path.read_text(encoding="utf-8"))["bars"]
    return [f"{path.stem}: {bar['name']}" for bar in bars if not bar["met"]]


if __name__ == "__main__":
    sys.exit(main())
