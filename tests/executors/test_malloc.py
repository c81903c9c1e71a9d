"""Freed memory is kept for the next step, by page faults counted in a process of its own."""

import subprocess
import sys

import pytest

CODE = """
import resource, threading
import numpy as np
from omega21.executors.malloc import keep_freed_memory

def step():
    parts = [np.empty(2**20, np.uint8) for _ in range(24)]
    for part in parts:
        part.fill(1)

def work():
    step()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        step()
    print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // 10)

keep_freed_memory()
thread = threading.Thread(target=work)  # the server computes in one too
thread.start()
thread.join()
"""


def faults(environment: dict[str, str]) -> int:
    """Page faults of a step that fills 24 MB."""
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        env=environment, capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="NOT TESTED: glibc's malloc is on Linux")
def test_what_a_step_frees_is_there_for_the_next_one() -> None:
    assert faults({}) < 100


@pytest.mark.skipif(sys.platform != "linux", reason="NOT TESTED: glibc's malloc is on Linux")
def test_an_environment_that_tunes_malloc_has_its_way() -> None:
    assert faults({"MALLOC_MMAP_THRESHOLD_": "65536"}) > 5000
