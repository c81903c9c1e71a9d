"""An engine in a process of its own, which can be killed at any instant.

Processes are forked from one that has loaded torch and computed nothing, so that one more costs
some 50 ms and not the seconds of loading torch. Their disk stays; all else is gone with SIGKILL.
"""

import multiprocessing
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from operator import attrgetter, ne
from pathlib import Path
from typing import Any

from omega21.engine.engine import Engine
from omega21.engine.options import EngineOptions
from omega21.protocol.errors import OmegaError, PlanUnfinished, StillRunning
from tests.engine.engines import MOST_SECONDS, Row, read_rows, running, wait_until

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["torch._dynamo", __name__])


@dataclass(frozen=True)
class _Raised:
    error: OmegaError


class EngineProcess:
    """An engine that is called through a pipe, one call at a time: `call("runs.create", ...)`."""

    def __init__(self, folder: Path, options: EngineOptions) -> None:
        self._folder = folder
        self._options = options
        self.start()

    def start(self) -> None:
        """Start it, on whatever an earlier one has left."""
        self._pipe, other = _context.Pipe()
        self._process = _context.Process(target=_serve, args=(self._folder, self._options, other))
        self._process.start()
        other.close()
        self._receive()

    def kill(self) -> None:
        """Kill it, whatever it is doing."""
        self._process.kill()
        self._end()

    def stop(self) -> None:
        """Stop it in good order."""
        self._pipe.send(None)
        self._end()

    def _end(self) -> None:
        self._process.join(MOST_SECONDS)
        self._process.close()
        self._pipe.close()

    def send(self, function: str | Callable[..., Any], *arguments: Any, **named: Any) -> None:
        """Begin a call of a part, or `function(engine, ...)`, and do not wait for it."""
        self._pipe.send((function, arguments, named))

    def call(self, function: str | Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Call a part of the engine, or `function(engine, ...)`; return or raise what it does."""
        self.send(function, *arguments, **named)
        return self._receive()

    def _receive(self) -> Any:
        assert self._pipe.poll(MOST_SECONDS), "the engine's process does not answer"
        answer = self._pipe.recv()
        if isinstance(answer, _Raised):
            raise answer.error
        return answer


def _serve(folder: Path, options: EngineOptions, pipe: Connection) -> None:
    with running(folder, options) as engine:
        pipe.send(None)
        while (call := pipe.recv()) is not None:
            function, arguments, named = call
            try:
                if isinstance(function, str):
                    answer = attrgetter(function)(engine)(*arguments, **named)
                else:
                    answer = function(engine, *arguments, **named)
            except OmegaError as error:
                answer = _Raised(error)
            pipe.send(answer)


# --- what can only be done where the engine is ---


def wait_for_step(engine: Engine, run: str, step: int) -> None:
    """Wait until a step is applied."""
    wait_until(engine, run, lambda summary: summary.step >= step)


def wait_for_plan(engine: Engine, run: str) -> None:
    """Wait until the whole plan is trained."""
    wait_until(engine, run, lambda summary: summary.step == summary.plan_steps)


def train_inline_until_answered(engine: Engine, run: str, x: Any, y: Any, **named: Any) -> Any:
    """Send an inline batch as a client does: again, when it is told to come later."""
    while True:
        known = engine.runs.summary(run)
        try:
            return engine.inline.train(run, x, y, **named)
        except (StillRunning, PlanUnfinished):
            wait_until(engine, run, partial(ne, known))


def all_rows(engine: Engine, run: str) -> list[Row]:
    """Read all results of a run."""
    return read_rows(engine, run)
