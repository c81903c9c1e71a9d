"""The process that computes: `python -m omega21.executors.child`, or a fork of the fork server.

It reads requests from standard input and answers them in order on standard output; what a model
prints goes to standard error. It ends with its parent.
"""

import ctypes
import importlib
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from omega21.executors.base import DeviceFailed, DeviceMemoryExhausted, EvaluationOutcome
from omega21.executors.channel import Arrays, Channel, Head
from omega21.executors.malloc import keep_freed_memory
from omega21.executors.openmp import bound_spinning
from omega21.executors.options import DeviceOptions
from omega21.executors.shared_memory import SharedSlots, Span
from omega21.language import message_parts
from omega21.models.registry import built_in_kinds
from omega21.protocol.errors import OmegaError, TaskFailed
from omega21.protocol.runs import RunConfig

_PR_SET_PDEATHSIG: Final = 1
_OOM_SCORE: Final = Path("/proc/self/oom_score_adj")

Answer = tuple[Head, Arrays]


def main() -> None:
    """Answer requests until the parent is gone."""
    end_with_parent()
    os.register_at_fork(after_in_child=end_with_parent)
    if _OOM_SCORE.exists():  # when memory is short, this process is ended before the server
        _OOM_SCORE.write_text("500", encoding="ascii")
    channel = _take_pipes()
    head, _arrays = channel.receive()
    code_folder = head.pop("code_folder")
    options = DeviceOptions(**head, code_folder=code_folder and Path(code_folder))
    bound_spinning()
    keep_freed_memory()
    _Server(channel, options).serve()


def end_with_parent() -> None:
    """Have the system end this process with the one that started it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def load() -> None:
    """Import what computes, torch among it; this takes seconds."""
    importlib.import_module("omega21.executors.torch")
    importlib.import_module("torch._dynamo")  # every optimizer loads it at its first step
    for kind in built_in_kinds():
        kind.load()
    importlib.import_module("omega21.models.code.task")


def _take_pipes() -> Channel:
    """Keep both pipes for the requests alone: what a model prints goes to standard error."""
    requests, replies = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    os.close(null)
    return Channel(os.fdopen(requests, "rb"), os.fdopen(replies, "wb"))


class _Server:
    def __init__(self, channel: Channel, options: DeviceOptions) -> None:
        self._channel = channel
        self._options = options
        self._requests: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self._slots: SharedSlots | None = None
        self._unregister: Callable[[], object] = lambda: None
        self._executor: Any = None
        self._is_dropping = False
        self._operations: dict[str, Callable[[Head, Arrays], Answer]] = {
            "warm_up": self._warm_up,
            "parameters": self._count_parameters,
            "probe": self._probe,
            "make": self._make,
            "step": self._step,
            "evaluate": self._evaluate,
            "predict": self._predict,
            "weights": lambda _head, _arrays: ({}, self._executor.weights()),
            "state": lambda _head, _arrays: ({}, self._executor.state()),
            "restore": self._restore,
        }

    def serve(self) -> None:
        try:
            load()
            from omega21.executors.torch import find_torch_device  # noqa: PLC0415 - after load

            self._device = find_torch_device(self._options)
        except OmegaError as error:
            self._channel.send(self._failed("absent", error.message, hint=error.hint)[0])
            return
        except Exception as error:  # noqa: BLE001 - whatever a torch that is broken raises
            kind = "import" if isinstance(error, ImportError | OSError) else "start"
            self._channel.send({"error": kind, "message": str(error)})
            return
        self._channel.send(self._device.describe())
        threading.Thread(target=self._read, daemon=True).start()
        own = os.getpid()
        while True:
            answer = self._answer(*self._requests.get())
            if os.getpid() != own:  # forked by the model in this step
                os._exit(0)
            self._channel.send(*answer)

    def _read(self) -> None:
        """Receive requests while a step is computed; without a parent there is nothing to do."""
        try:
            while True:
                self._requests.put(self._channel.receive())
        except (EOFError, OSError):
            os.killpg(0, signal.SIGKILL)  # with what the model started

    def _answer(self, head: Head, arrays: Arrays) -> Answer:
        try:
            return self._operations[head["do"]](head, arrays)
        except DeviceMemoryExhausted as error:
            return self._failed("memory", str(error))
        except DeviceFailed as error:
            return self._failed("device", str(error))
        except TaskFailed as error:
            answer, arrays = self._failed("task", error.message, hint=error.hint)
            return {**answer, "code": error.code}, arrays
        except Exception as error:  # noqa: BLE001 - whatever it is, the engine is told
            traceback.print_exc()
            kind = "mismatch" if isinstance(error, KeyError | RuntimeError) else "failed"
            return self._failed(kind, f"{type(error).__name__}: {error}")

    def _failed(self, kind: str, message: str, *, hint: str = "") -> Answer:
        """Drop the steps that were sent behind this one: they are to come after it."""
        self._is_dropping = True
        parts = {"message": message_parts(message), "hint": message_parts(hint)}
        return {"error": kind, **parts}, {}

    def _warm_up(self, head: Head, _arrays: Arrays) -> Answer:
        self._device.warm_up()
        return self._count_parameters(head, _arrays)

    def _count_parameters(self, head: Head, _arrays: Arrays) -> Answer:
        return {"parameters": self._device.parameters(_config(head))}, {}

    def _probe(self, head: Head, arrays: Arrays) -> Answer:
        reply = self._device.probe(_config(head), arrays)
        return {"reply": reply.model_dump_json()}, {}

    def _make(self, head: Head, _arrays: Arrays) -> Answer:
        config = _config(head)
        self._device.prepare(config)
        self._slots = SharedSlots.open(Path(head["memory"]))
        self._executor = self._device.make_executor(config)
        self._device.prepare(config)  # a model may have changed the settings
        return {
            "parameters": self._executor.parameters(),
            "samples_mix": self._executor.samples_mix,
        }, {}

    def _step(self, head: Head, _arrays: Arrays) -> Answer:
        """Compute a step, unless the one before it, sent with it, was not computed."""
        if self._is_dropping and not head["first"]:
            return {"error": "dropped", "message": "", "hint": ""}, {}
        self._is_dropping = False
        assert self._slots is not None
        if head["slot_bytes"] != self._slots.slot_bytes:
            self._unregister()
            self._slots.take_over(head["slot_bytes"])
            self._unregister = self._device.register_memory(self._slots.memory())
        batch = self._slots.arrays(head["slot"], [Span(*span) for span in head["spans"]])
        outcome = self._executor.step(batch, head["number"], micro_batch_size=head["micro_batch"])
        return {
            "loss": outcome.loss,
            "applied": outcome.applied,
            "skipped_by_scaler": outcome.skipped_by_scaler,
            "metrics": outcome.metrics,
            "memory": self._device.memory(),
        }, dict(outcome.vectors)

    def _evaluate(self, head: Head, arrays: Arrays) -> Answer:
        outcome: EvaluationOutcome = self._executor.evaluate(
            arrays, micro_batch_size=head["micro_batch"]
        )
        scores = {} if outcome.scores is None else {"scores": outcome.scores}
        return {"loss": outcome.loss, "metrics": outcome.metrics}, dict(scores)

    def _predict(self, head: Head, arrays: Arrays) -> Answer:
        return {}, self._executor.predict(arrays, micro_batch_size=head["micro_batch"])

    def _restore(self, _head: Head, arrays: Arrays) -> Answer:
        self._executor.restore(arrays)
        return {}, {}


def _config(head: Head) -> RunConfig:
    return RunConfig.parse_lenient(head["config"])


if __name__ == "__main__":
    main()
