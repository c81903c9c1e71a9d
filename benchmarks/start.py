"""How long a person waits before anything happens.

python -m benchmarks.start [--quick] [--json FILE]
"""

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import httpx

from benchmarks.bars import Bar, finish, median_bar, show
from benchmarks.client_process import train
from benchmarks.processes import server
from omega21.models.corteza.config import TINY, task

MOST_HELP_SECONDS = 0.3
MOST_IMPORT_SECONDS = 0.4
MOST_FIRST_RESULT_SECONDS = 0.5
MOST_FIRST_ANSWER_SECONDS = 1.0


def _seconds(*command: str) -> float:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    return time.perf_counter() - started


def _first_answer(program: str) -> float:
    """Start a server, and ask until it answers; torch is loaded beside that."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="omega21-bench-") as folder:
        options = ["--port", str(port), "--data-dir", folder, "--tunnel", "none"]
        started = time.perf_counter()
        with subprocess.Popen(
            [program, "serve", *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            try:
                while not _answers(port):
                    time.sleep(0.005)
                return time.perf_counter() - started
            finally:
                process.terminate()


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False).is_success
    except httpx.TransportError:
        return False


def waits(rounds: int) -> list[Bar]:
    """Time the help, the import, and a first result over loopback."""
    program = str(Path(sys.executable).with_name("omega21"))
    for _ in range(2):  # after this the bytecode is there, as after an installation
        _seconds(program, "--help")
        _seconds(sys.executable, "-c", "from omega21 import Client")
    bars = [
        median_bar(
            "omega21 --help, seconds",
            [_seconds(program, "--help") for _ in range(rounds)],
            MOST_HELP_SECONDS,
            most=True,
        ),
        median_bar(
            "from omega21 import Client, seconds",
            [_seconds(sys.executable, "-c", "from omega21 import Client") for _ in range(rounds)],
            MOST_IMPORT_SECONDS,
            most=True,
        ),
    ]
    bars.append(
        median_bar(
            "omega21 serve to its first answer, seconds",
            [_first_answer(program) for _ in range(rounds)],
            MOST_FIRST_ANSWER_SECONDS,
            most=True,
        )
    )
    firsts = []
    with server() as served:
        for turn in range(rounds + 1):
            order = {"run": f"first-{turn}", "validation": 0, "seed": turn}
            seen = train(served.address, order | {"task": task(TINY).model_dump(mode="json")})
            firsts.append(seen.first_result - seen.started)
    # The server's own first request of each kind is no part of it: it is up, and has been asked.
    bars.append(
        median_bar(
            "connect and first result, seconds",
            firsts[1:],
            MOST_FIRST_RESULT_SECONDS,
            most=True,
        )
    )
    show(bars)
    return bars


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark from the command line; 1 when a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.start", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    given = parser.parse_args(arguments)
    return finish(waits(3 if given.quick else 9), {}, path=given.json)


if __name__ == "__main__":
    sys.exit(main())
