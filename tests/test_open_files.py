"""How many files may be open is asked of the system, in a process of its own."""

import subprocess
import sys

import pytest

CODE = """
import resource, sys
from omega21 import open_files
from omega21.server.http.connections import Limits
from omega21.server.http.listener import within_open_files
soft, hard = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
print(open_files.for_shards(), within_open_files(Limits()).connections)
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(
    ("soft", "hard", "shards", "connections", "raised"),
    [
        (1024, 20_000, 4096, 512, 5120),
        (256, 2048, 1024, 512, 2048),
        (1024, 1024, 64, 512, 1024),
        (128, 256, 64, 16, 256),
    ],
)
def test_shards_take_what_nothing_else_needs(
    soft: int, hard: int, shards: int, connections: int, raised: int
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(soft), str(hard)],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert done.stdout.split() == [str(n) for n in (shards, connections, raised, hard)]
