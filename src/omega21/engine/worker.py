"""The thread that computes: one step, one inline batch or one request at a time."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from omega21 import logs
from omega21.engine.batches import BatchFeed
from omega21.engine.checkpointing import Checkpointer
from omega21.engine.executor_cache import ExecutorCache
from omega21.engine.inline_training import InlineTrainer
from omega21.engine.registry import Registry
from omega21.engine.run import Run
from omega21.engine.scheduler import Scheduler, Work
from omega21.engine.step_runner import StepRunner
from omega21.engine.step_writer import StepWriter
from omega21.engine.storage.data_folder import DataFolder
from omega21.executors.base import DeviceFailed, Executor
from omega21.language import _
from omega21.protocol.errors import (
    OmegaError,
    OutOfDeviceMemory,
    TaskFailed,
    Unavailable,
    UnknownShard,
)

logger = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class _Request:
    run: Run | None
    compute_with: Callable[[ExecutorCache], Any]
    result: "Future[Any]"
    log_context: Mapping[str, object] = field(default_factory=logs.current)

    @property
    def names(self) -> dict[str, str]:
        """The run, for the log."""
        return {} if self.run is None else {"run": self.run.name}

    def compute(self, executor_cache: ExecutorCache) -> None:
        if not self.result.set_running_or_notify_cancel():
            return
        try:
            self.result.set_result(self.compute_with(executor_cache))
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to whoever asked
            self.result.set_exception(error)


class Worker:
    """Computes what `Scheduler` chooses, for all runs of an engine.

    `fatal(reason)` is called when this process can compute no more.
    """

    def __init__(
        self,
        registry: Registry,
        folder: DataFolder,
        *,
        step_writer: StepWriter,
        executor_cache: ExecutorCache,
        checkpointer: Checkpointer,
        fatal: Callable[[str], None],
    ) -> None:
        self._registry = registry
        self._step_writer = step_writer
        self._executor_cache = executor_cache
        self._checkpointer = checkpointer
        self._fatal = fatal
        self._scheduler = Scheduler(checkpointer.due_at)
        self._runner = StepRunner(registry, folder, device=executor_cache.device)
        self._inline = InlineTrainer(
            registry,
            folder,
            step_writer=step_writer,
            executor_cache=executor_cache,
            runner=self._runner,
            check_open=self.check_open,
            fail=self._fail,
        )
        self._feed = BatchFeed(executor_cache.device.stage)
        self._requests: deque[_Request] = deque()
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="omega21-worker")

    @property
    def steps_done(self) -> int:
        """Planned steps and inline batches computed by this process."""
        return self._runner.steps_done

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout: float) -> bool:
        """Stop after the current step; False if that took longer than `timeout`."""
        with self._registry.locked():
            self._stopping = True
            self._registry.wake()
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def check_open(self) -> None:
        """Raise Unavailable when nothing more will be computed."""
        if self._stopping:
            raise Unavailable(_("the server is stopping"), retry_after=5)

    def submit(self, run: Run, function: Callable[[Executor], T]) -> "Future[T]":
        """Call `function` with the run's executor between two steps."""
        return self._submit(run, lambda cache: function(cache.executor_of(run)))

    def call(self, function: Callable[[], T]) -> "Future[T]":
        """Call `function` between two steps, for no run."""
        return self._submit(None, lambda _cache: function())

    def _submit(self, run: Run | None, compute_with: Callable[[ExecutorCache], T]) -> "Future[T]":
        result: Future[T] = Future()
        with self._registry.locked():
            self.check_open()
            self._requests.append(_Request(run, compute_with, result))
            self._registry.wake()
        return result

    # --- the thread ---

    def _work(self) -> None:
        try:
            self._executor_cache.warm_up()
            while (work := self._next()) is not None:
                context, do = work
                with logs.log_context(**context):
                    do()
            self._step_writer.finish()
            self._step_writer.flush_all(self._registry.all())
            self._executor_cache.save_all()
        except Exception as error:
            logger.exception("the worker has stopped")
            self._fatal(f"{type(error).__name__}: {error}")
        finally:
            self._step_writer.finish()
            self._feed.close()
            self._refuse_rest()

    def _next(self) -> tuple[Mapping[str, object], Callable[[], None]] | None:
        """Wait for work; return its log context and a function that does it."""
        with self._registry.locked():
            while not self._stopping:
                now, runs = time.monotonic(), self._registry.all()
                work = self._scheduler.choose(runs, now, requested=bool(self._requests))
                if work is not None:
                    return self._take(work)
                self._registry.wait(self._scheduler.idle_seconds(runs, now))
            return None

    def _take(self, work: Work[Run]) -> tuple[Mapping[str, object], Callable[[], None]]:
        """Prepare the chosen work; the lock is held."""
        if work.kind == "flush":
            return {}, partial(self._step_writer.begin_flush, self._registry.all())
        if work.kind == "request":
            request = self._requests.popleft()
            context = {**request.log_context, **request.names}
            return context, partial(request.compute, self._executor_cache)
        run = work.run
        assert run is not None
        if work.kind == "checkpoint":
            return {}, partial(self._save, run)
        names = {"run": run.name, "step": run.step + 1}
        if work.kind == "step":
            return names, partial(self._train_planned, run)
        task = run.inline[0]
        task.begun = True  # removed when its training starts: from now on this thread completes it
        return names, partial(self._inline.train, run, task)

    def _save(self, run: Run) -> None:
        if run.executor is not None:
            self._checkpointer.save(run, run.executor)

    def _train_planned(self, run: Run) -> None:
        step = None  # where the run goes on, and nothing is to be told but its step
        try:
            executor = self._executor_cache.executor_of(run)
            if not run.can_train():  # the restore has moved it
                return
            number, index = run.index.locate(run.step + 1)
            batch = self._feed.take(run.readers[number], index)
            self._prepare_next(run)
            position, record = self._runner.compute(run, executor, before=run.position, batch=batch)
            with self._registry.locked():
                if not run.removed:
                    self._runner.accept(run, position, [record])
                if run.can_train():
                    step = run.step
        except UnknownShard as error:
            logger.warning("run %s waits for a shard again: %s", run.name, error)
            with self._registry.locked():
                for reader in run.readers:
                    reader.forget_present()
        except (TaskFailed, OutOfDeviceMemory) as error:  # raised before the step changed anything
            self._fail(run, error, is_unchanged=True)
        except Exception as error:  # noqa: BLE001 - the run stops, the thread and the others do not
            self._fail(run, error)
        self._registry.notify(run.name, step)

    def _prepare_next(self, run: Run) -> None:
        """Prefetch the batch after the next step while a GPU computes that step.

        On a CPU the reading thread would take a core from the compute threads, which wait for each
        other hundreds of times in a step: 14 ms for a step of the tiny model instead of 10.
        """
        if self._executor_cache.device.shares_cores:
            return
        with self._registry.locked():
            number, index = run.index.locate(run.step + 2)
            reader = run.readers[number]
            is_next = run.step + 2 <= run.target and reader.is_ready(index)
        if is_next:
            self._feed.prepare(reader, index)

    def _fail(self, run: Run, error: Exception, *, is_unchanged: bool = False) -> None:
        """Stop a run whose step failed; its state in memory is dropped unless `is_unchanged`."""
        reason = str(error) if isinstance(error, OmegaError) else f"{type(error).__name__}: {error}"
        logger.error("run %s stopped at step %d", run.name, run.step + 1, exc_info=error)
        with self._registry.locked():
            run.failure = f"step {run.step + 1}: {reason}"
            run.failure_code = error.code if isinstance(error, OmegaError) else None
            if not is_unchanged:
                run.executor = None
            waiting = run.take_waiting_inline()
        for task in waiting:
            task.done.set_exception(error)
        self._registry.notify(run.name)
        if isinstance(error, DeviceFailed):
            # Such an error is permanent: every later call of this process would fail too.
            self._fatal(reason)

    def _refuse_rest(self) -> None:
        error = Unavailable(_("the server is stopping"), retry_after=5)
        with self._registry.locked():
            self._stopping = True
            for request in self._requests:
                request.result.set_exception(error)
            for run in self._registry.all():
                for task in run.inline:
                    task.done.set_exception(error)
