"""The thread that computes: one step, one inline batch or one request at a time."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
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
from omega21.engine.step_runner import BegunStep, StepRunner
from omega21.engine.step_writer import StepWriter
from omega21.engine.storage.data_folder import DataFolder
from omega21.executors.base import DeviceFailed, Executor, ExecutorDied, StepDropped
from omega21.language import _
from omega21.protocol.errors import (
    OmegaError,
    OutOfDeviceMemory,
    TaskFailed,
    Unavailable,
    UnknownShard,
)

MOST_DEATHS = 3
"""Deaths of a run's executor at one step, after which the run fails."""

MOST_REQUEST_DEATHS = 2
"""Deaths of an executor in one request, after which the request is refused."""

logger = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(eq=False)
class _Request:
    """A function to call with a run's executor, at the step where it was asked for or a later one.

    Where what computes the run ends meanwhile, the run first goes on to that step again.
    """

    run: Run
    function: Callable[[Executor], Any]
    result: "Future[Any]"
    step: int
    log_context: Mapping[str, object] = field(default_factory=logs.current)
    deaths: int = 0

    def is_due(self) -> bool:
        """Whether it can be computed: its run is at its step, or has to be restored first."""
        return self.run.executor is None or not self._is_early()

    def _is_early(self) -> bool:
        return self.run.step < self.step and self.run.can_train()

    def compute(self, executor_cache: ExecutorCache) -> bool:
        """Call the function; False where it has to be computed later."""
        if not (self.result.running() or self.result.set_running_or_notify_cancel()):
            return True
        try:
            executor = executor_cache.executor_of(self.run)
            if self._is_early():
                return False
            value = self.function(executor)
        except (ExecutorDied, DeviceFailed) as error:
            executor_cache.discard(self.run)
            self.deaths += 1
            if self.deaths < MOST_REQUEST_DEATHS:
                return False
            told = _("what computes has ended: {error}").format(error=error)
            self.result.set_exception(Unavailable(told, retry_after=1))
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to whoever asked
            self.result.set_exception(error)
        else:
            self.result.set_result(value)
        return True


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
        self._events = folder.ledger.events
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
            lost=self._lost,
        )
        self._feed = BatchFeed()
        self._begun: deque[BegunStep] = deque()
        self._begun_run: Run | None = None
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
        result: Future[T] = Future()
        with self._registry.locked():
            self.check_open()
            self._requests.append(_Request(run, function, result, run.step))
            self._registry.wake()
        return result

    # --- the thread ---

    def _work(self) -> None:
        try:
            if not self._has_device():
                return
            self._executor_cache.warm_up()
            while (work := self._next()) is not None:
                context, do = work
                with logs.log_context(**context):
                    do()
            self._end_begun()
            self._step_writer.finish()
            self._step_writer.flush_all(self._registry.all())
            self._executor_cache.save_all()
        except Exception as error:
            logger.exception("the worker has stopped")
            self._fatal(f"{type(error).__name__}: {error}")
        finally:
            self._step_writer.finish()
            self._refuse_rest()

    def _has_device(self) -> bool:
        """Wait for the device; one that is not there is told by whoever started the engine."""
        try:
            self._executor_cache.device.check()
        except Exception as error:  # noqa: BLE001 - whatever a torch that is broken raises
            self._fatal(f"{type(error).__name__}: {error}")
            return False
        return True

    def _next(self) -> tuple[Mapping[str, object], Callable[[], None]] | None:
        """Wait for work; return its log context and a function that does it."""
        with self._registry.locked():
            while not self._stopping:
                if self._executor_cache.has_removed():
                    return {}, self._drop_removed
                now, runs = time.monotonic(), self._registry.all()
                is_requested = any(request.is_due() for request in self._requests)
                work = self._scheduler.choose(runs, now, requested=is_requested)
                if work is not None:
                    names, do = self._take(work)
                    return names, do if self._goes_on(work) else partial(self._end_begun, do)
                if self._begun:
                    return {}, self._end_begun
                self._registry.wait(self._scheduler.idle_seconds(runs, now))
            return None

    def _goes_on(self, work: Work[Run]) -> bool:
        """Whether the work may come between steps that are under way."""
        return work.kind == "flush" or (work.kind == "step" and work.run is self._begun_run)

    def _drop_removed(self) -> None:
        if self._begun_run is not None and self._begun_run.removed:
            self._begun.clear()
        self._executor_cache.drop_removed()

    def _take(self, work: Work[Run]) -> tuple[Mapping[str, object], Callable[[], None]]:
        """Prepare the chosen work; the lock is held."""
        if work.kind == "flush":
            return {}, partial(self._step_writer.begin_flush, self._registry.all())
        if work.kind == "request":
            request = next(request for request in self._requests if request.is_due())
            self._requests.remove(request)
            return {**request.log_context, "run": request.run.name}, partial(self._answer, request)
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

    def _answer(self, request: _Request) -> None:
        if not request.compute(self._executor_cache):
            with self._registry.locked():
                self._requests.appendleft(request)

    def _save(self, run: Run) -> None:
        if run.executor is None:
            return
        try:
            self._checkpointer.save(run, run.executor)
        except (ExecutorDied, DeviceFailed) as error:
            self._lost(run, error)

    def _train_planned(self, run: Run) -> None:
        """Begin the run's next steps, where they are not under way, and wait for the first."""
        try:
            executor = self._executor_cache.executor_of(run)
            if not self._begun and run.can_train():  # a restore moves it
                self._begin(run, executor, run.step + 1)
            if self._begun and self._may_begin_ahead(run):
                self._begin(run, executor, run.step + 2)
        except UnknownShard as error:
            self._wait_for_shard(run, error)
        except (ExecutorDied, DeviceFailed) as error:
            self._lost(run, error)
        except Exception as error:  # noqa: BLE001 - the run stops, the thread and the others do not
            self._fail(run, error)
        if self._begun:
            self._end_one(run)

    def _begin(self, run: Run, executor: Executor, number: int) -> None:
        """Read the batch of a step, and hand it over; one beside another only where it fits."""
        segment, index = run.index.locate(number)
        batch = self._feed.take(run.readers[segment], index)
        if self._begun and not executor.fits_beside(batch):
            return
        step = self._runner.begin(run, executor, number=number, batch=batch)
        self._begun_run = run
        self._begun.append(step)

    def _may_begin_ahead(self, run: Run) -> bool:
        """Whether the step after the next may be begun: nothing else is to come before it."""
        with self._registry.locked():
            ahead = run.step + 2
            if len(self._begun) > 1 or self._requests or self._stopping or ahead > run.target:
                return False
            if run.paused or run.removed or run.position.non_finite_in_a_row:
                return False
            number, index = run.index.locate(ahead)
            return run.readers[number].is_ready(index)

    def _end_one(self, run: Run) -> None:
        """Wait for the oldest step under way, and apply its result."""
        step = None  # where the run goes on, and nothing is to be told but its step
        assert run.executor is not None
        try:
            position, record = self._runner.end(
                run, run.executor, before=run.position, begun=self._begun
            )
            with self._registry.locked():
                if not run.removed:
                    self._runner.accept(run, position, [record])
                if run.can_train():
                    step = run.step
        except (ExecutorDied, DeviceFailed) as error:
            self._lost(run, error)
        except (TaskFailed, OutOfDeviceMemory) as error:  # raised before the step changed anything
            self._fail(run, error, is_unchanged=True)
        except Exception as error:  # noqa: BLE001 - the run stops, the thread and the others do not
            self._fail(run, error)
        self._registry.notify(run.name, step)

    def _end_begun(self, then: Callable[[], None] = lambda: None) -> None:
        """Wait for all steps that are under way, then do something else."""
        while self._begun:
            assert self._begun_run is not None
            self._end_one(self._begun_run)
        then()

    def _wait_for_shard(self, run: Run, error: UnknownShard) -> None:
        logger.warning("run %s waits for a shard again: %s", run.name, error)
        with self._registry.locked():
            for reader in run.readers:
                reader.forget_present()

    def _lost(self, run: Run, error: ExecutorDied | DeviceFailed) -> None:
        """Go on from the newest checkpoint where what computes a run has ended.

        The third time in a row at the same step, the run fails.
        """
        self._begun.clear()
        self._executor_cache.discard(run)
        number = run.step + 1
        run.deaths = run.deaths.another(number)
        logger.warning("run %s: its executor ended at step %d: %s", run.name, number, error)
        self._events.add(run.key, "executor_died", f"step {number}: {error}")
        if run.deaths.count >= MOST_DEATHS:
            output = error.last_lines if isinstance(error, ExecutorDied) else ""
            reason = _("what computes it ended {count} times in a row: {error}").format(
                count=run.deaths.count, error=error
            )
            self._fail(run, TaskFailed(f"{reason}\n{output}".rstrip(), hint=""))
        else:
            self._registry.notify(run.name)

    def _fail(self, run: Run, error: Exception, *, is_unchanged: bool = False) -> None:
        """Stop a run whose step failed; its state in memory is dropped unless `is_unchanged`."""
        logger.error("run %s stopped at step %d", run.name, run.step + 1, exc_info=error)
        self._begun.clear()
        if is_unchanged and run.executor is not None:
            _drain(run.executor)
        else:
            self._executor_cache.discard(run)
        with self._registry.locked():
            run.failure = _failure(run.step + 1, error)
            run.failure_code = error.code if isinstance(error, OmegaError) else None
            waiting = run.take_waiting_inline()
        for task in waiting:
            task.done.set_exception(error)
        self._registry.notify(run.name)

    def _refuse_rest(self) -> None:
        error = Unavailable(_("the server is stopping"), retry_after=5)
        with self._registry.locked():
            self._stopping = True
            for request in self._requests:
                request.result.set_exception(error)
            for run in self._registry.all():
                for task in run.inline:
                    task.done.set_exception(error)


def _failure(number: int, error: Exception) -> str:
    """Return why a run failed at a step: a message that each reader gets in their language."""
    if not isinstance(error, OmegaError):
        reason = f"{type(error).__name__}: {error}"
        return _("step {number}: {reason}").format(number=number, reason=reason)
    if not error.hint:
        return _("step {number}: {reason}").format(number=number, reason=error.message)
    return _("step {number}: {reason}; {hint}").format(
        number=number, reason=error.message, hint=error.hint
    )


def _drain(executor: Executor) -> None:
    """Take the replies of steps that were begun behind one that failed."""
    while executor.steps_under_way:
        with suppress(StepDropped):
            executor.end_step()
