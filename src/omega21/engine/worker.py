"""The thread that computes: one step, one inline batch or one request at a time.

The order in which runs take their turns:

1. A request (`predict`, `evaluate`, weights) goes between any two steps; two requests in a row
   only where nothing can be trained.
2. An inline batch whose plan is done goes before planned steps, whosever they are.
3. Runs with work take turns of a second, in the order in which they were made.
"""

import logging
import math
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
from omega21.engine.registry import Registry
from omega21.engine.run import Clock, InlineTask, Position, Run, make_result
from omega21.engine.step_writer import StepWriter
from omega21.engine.storage.ledger import Ledger, Result
from omega21.executors.base import (
    Batch,
    DeviceFailed,
    DeviceMemoryExhausted,
    Executor,
    StepOutcome,
)
from omega21.language import _
from omega21.protocol.errors import (
    NonFinite,
    OmegaError,
    OutOfDeviceMemory,
    RunDeleted,
    StorageFull,
    Unavailable,
    UnknownShard,
    to_problem,
)
from omega21.protocol.runs import Environment

TURN_SECONDS = 1.0
FLUSH_SECONDS = 0.5
_MOST_PENDING = 20_000

logger = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class _Request:
    run: Run
    function: Callable[[Executor], Any]
    result: "Future[Any]"
    log_context: Mapping[str, object] = field(default_factory=logs.current)


class Worker:
    """Computes for all runs of an engine.

    `fatal(reason)` is called when this process can compute no more.
    """

    def __init__(
        self,
        registry: Registry,
        ledger: Ledger,
        *,
        step_writer: StepWriter,
        executor_cache: ExecutorCache,
        checkpointer: Checkpointer,
        fatal: Callable[[str], None],
    ) -> None:
        self._registry = registry
        self._ledger = ledger
        self._step_writer = step_writer
        self._executor_cache = executor_cache
        self._checkpointer = checkpointer
        self._fatal = fatal
        self._clock = Clock()
        self._conditions: dict[
            int, Environment
        ] = {}  # by run: those that this process computes under
        self._feed = BatchFeed(executor_cache.device.stage)
        self._requests: deque[_Request] = deque()
        self._request_was_last = False
        self._turn: Run | None = None
        self._turn_ends = 0.0
        self._flush_due = 0.0
        self._stopping = False
        self.steps_done = 0
        self._thread = threading.Thread(target=self._work, name="omega21-worker")

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def stop(self, timeout: float) -> bool:
        """Finish the step under way and leave; False if that took longer than `timeout`."""
        with self._registry.locked():
            self._stopping = True
            self._registry.wake()
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def check_open(self) -> None:
        """Raise Unavailable when nothing will be computed any more; the lock is held."""
        if self._stopping:
            raise Unavailable(_("the server is stopping"), retry_after=5)

    def submit(self, run: Run, function: Callable[[Executor], T]) -> "Future[T]":
        """Have `function` called with the run's executor between two steps."""
        result: Future[T] = Future()
        with self._registry.locked():
            self.check_open()
            self._requests.append(_Request(run, function, result))
            self._registry.wake()
        return result

    # --- choosing ---

    def _work(self) -> None:
        try:
            self._executor_cache.warm_up()
            while (task := self._next_task()) is not None:
                task()
                if time.monotonic() >= self._flush_due:
                    self._begin_flush()
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

    def _next_task(self) -> Callable[[], None] | None:
        with self._registry.locked():
            while not self._stopping:
                now = time.monotonic()
                task = self._due_write(now) or self._choose()
                if task is not None:
                    return task
                self._registry.wait(self._idle_seconds(now))
            return None

    def _due_write(self, now: float) -> Callable[[], None] | None:
        for run in self._registry.all():
            due = self._checkpointer.due_at(run)
            if due is not None and due <= now:
                return partial(self._save, run)
        if now >= self._flush_due and any(run.pending for run in self._registry.all()):
            return self._begin_flush
        return None

    def _idle_seconds(self, now: float) -> float | None:
        """Return how long nothing will be due, None for ever."""
        dues = [
            due
            for run in self._registry.all()
            if (due := self._checkpointer.due_at(run)) is not None
        ]
        if any(run.pending for run in self._registry.all()):
            dues.append(self._flush_due)
        return max(0.0, min(dues) - now) if dues else None

    def _save(self, run: Run) -> None:
        if run.executor is not None:
            self._checkpointer.save(run, run.executor)

    def _choose(self) -> Callable[[], None] | None:
        waiting = (run for run in self._registry.all() if run.can_train_inline())
        inline = next(waiting, None)
        chosen = self._choose_run() if inline is None else inline
        if self._requests and (chosen is None or not self._request_was_last):
            self._request_was_last = True
            request = self._requests.popleft()
            named = partial(self._compute_request, request)
            return partial(_under, {**request.log_context, "run": request.run.name}, named)
        self._request_was_last = False
        if chosen is None:
            return None
        if inline is None:
            return partial(_under, _names(chosen), partial(self._train_planned, chosen))
        task = chosen.inline[0]
        task.begun = True  # only where it is trained now: from here on it is settled by this thread
        return partial(_under, _names(chosen), partial(self._train_inline, chosen, task))

    def _choose_run(self) -> Run | None:
        now = time.monotonic()
        turn = self._turn
        if turn is not None and now < self._turn_ends and self._may_train(turn):
            return turn
        runs = self._registry.all()
        start = runs.index(turn) + 1 if turn in runs else 0
        for run in runs[start:] + runs[:start]:
            if self._may_train(run):
                self._turn, self._turn_ends = run, now + TURN_SECONDS
                return run
        return None

    def _may_train(self, run: Run) -> bool:
        return len(run.pending) < _MOST_PENDING and run.can_train()

    # --- computing ---

    def _compute_request(self, request: _Request) -> None:
        if not request.result.set_running_or_notify_cancel():
            return
        try:
            request.result.set_result(
                request.function(self._executor_cache.executor_of(request.run))
            )
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to whoever asked
            request.result.set_exception(error)

    def _train_planned(self, run: Run) -> None:
        step = None  # where the run goes on, and nothing is to be told but its step
        try:
            executor = self._executor_cache.executor_of(run)
            if not run.can_train():  # restoring it moved it
                return
            number, index = run.index.locate(run.step + 1)
            reader = run.readers[number]
            batch = self._feed.take(reader, index)
            self._prepare_next(run)
            position, result = self._compute(run, executor, before=run.position, batch=batch)
            with self._registry.locked():
                if not run.removed:
                    self._accept(run, position, [result])
                if run.can_train():
                    step = run.step
        except UnknownShard as error:
            logger.warning("run %s waits for a shard again: %s", run.name, error)
            with self._registry.locked():
                for reader in run.readers:
                    reader.forget_present()
        except Exception as error:  # noqa: BLE001 - the run stops, the thread and the others do not
            self._fail(run, error)
        self._registry.notify(run.name, step)

    def _prepare_next(self, run: Run) -> None:
        """Have the batch after the next step read while a GPU computes that one.

        On a CPU the thread that reads would take a core from those that compute, which wait for
        each other hundreds of times a step: 14 ms a step of the tiny model, and not 10.
        """
        if self._executor_cache.device.shares_cores:
            return
        with self._registry.locked():
            number, index = run.index.locate(run.step + 2)
            reader = run.readers[number]
            is_next = run.step + 2 <= run.target and reader.is_ready(index)
        if is_next:
            self._feed.prepare(reader, index)

    def _train_inline(self, run: Run, task: InlineTask) -> None:
        """Train all epochs of an inline batch, or leave everything as it was."""
        try:
            self._step_writer.flush(run)
            trained = self._try_inline(run, task)
            if trained is None:
                with self._registry.locked():
                    self._check_is_here(run)  # else nobody would come back to the task
                    task.begun = False
                return
            position, results = trained
            with self._registry.locked():
                self._take_in(run, task, position=position, results=results)
        except Exception as error:  # noqa: BLE001 - the run stops, the thread and the others do not
            self._give_up(run, task, error)
        else:
            task.done.set_result(results[-1])
        self._registry.notify(run.name)

    def _give_up(self, run: Run, task: InlineTask, error: Exception) -> None:
        """Tell whoever waits for an inline batch why it was not trained."""
        try:
            with self._registry.locked():
                run.inline.remove(task)
                run.micro_batch_sizes = {
                    f: size for f, size in run.micro_batch_sizes.items() if f <= run.step
                }
            if isinstance(error, NonFinite | OutOfDeviceMemory):
                problem = to_problem(error).model_dump_json()
                self._ledger.refuse_inline(run.key, task.batch, problem=problem, step=run.step)
            elif not isinstance(error, Unavailable | RunDeleted):
                self._fail(run, error)
        except StorageFull as full:
            logger.warning("that an inline batch was refused is not on disk: %s", full)
        finally:
            task.done.set_exception(error)

    def _take_in(
        self, run: Run, task: InlineTask, *, position: Position, results: list[Result]
    ) -> None:
        """Make a trained inline batch part of the plan, on disk and here; the lock is held."""
        self._check_is_here(run)
        self._ledger.finish_inline(
            run.key,
            task.batch,
            number=len(run.readers),
            segment=task.reader.segment,
            results=results,
        )
        run.inline.remove(task)
        run.add_segment(task.reader)
        run.target = run.index.steps
        self._accept(run, position, [])

    def _check_is_here(self, run: Run) -> None:
        if run.removed:
            raise RunDeleted(_("run {name!r} was removed meanwhile").format(name=run.name))

    def _try_inline(self, run: Run, task: InlineTask) -> tuple[Position, list[Result]] | None:
        executor = self._executor_cache.executor_of(run)
        if not run.can_train_inline():  # restoring it moved it
            return None
        segment = task.reader.segment
        before = executor.state() if segment.steps > 1 else None
        position, results = run.position, []
        try:
            for index in range(segment.steps):
                position, result = self._compute(
                    run, executor, before=position, batch=task.reader.read(index)
                )
                if result.refused:
                    raise NonFinite(
                        _(
                            "the batch makes the loss or the gradient NaN or infinite in epoch "
                            "{epoch} of {epochs}"
                        ).format(epoch=index + 1, epochs=segment.epochs)
                    )
                results.append(result)
                if self._stopping and index + 1 < segment.steps:
                    raise Unavailable(_("the server is stopping"), retry_after=5)
        except BaseException:
            if before is not None:
                executor.restore(before)
            raise
        return position, results

    def _compute(
        self, run: Run, executor: Executor, *, before: Position, batch: Batch
    ) -> tuple[Position, Result]:
        """Compute the step after `before`, in parts where the batch does not fit."""
        self._record_environment(run, before.step + 1)
        started = time.monotonic()
        outcome, micro_batch_size = self._fit(run, executor, number=before.step + 1, batch=batch)
        position = before.after(outcome)
        result = make_result(
            position,
            outcome,
            samples=len(batch.y),
            ended_at=self._clock.now(),
            seconds=time.monotonic() - started,
            micro_batch_size=micro_batch_size,
        )
        return position, result

    def _fit(
        self, run: Run, executor: Executor, *, number: int, batch: Batch
    ) -> tuple[StepOutcome, int | None]:
        """Try the step in ever smaller parts; each size is on disk before it is tried."""
        size = len(batch.y)
        while True:
            recorded = run.micro_batch_size_at(number)
            part = size if recorded is None else min(recorded, size)
            try:
                outcome = executor.step(batch, number, micro_batch_size=part)
            except DeviceMemoryExhausted as error:
                if part == 1:
                    raise OutOfDeviceMemory(
                        _("step {number}: one sample does not fit in the device's memory").format(
                            number=number
                        )
                    ) from error
                smaller = math.ceil(part / 2)
                logger.warning("step %d does not fit; %d samples at a time", number, smaller)
                self._ledger.add_micro_batch_size(
                    run.key, from_step=number, micro_batch_size=smaller
                )
                with self._registry.locked():
                    run.micro_batch_sizes[number] = smaller
                continue
            return outcome, part if part < size else None

    def _record_environment(self, run: Run, number: int) -> None:
        last = run.environments[-1] if run.environments else None
        if last is not None and last is self._conditions.get(run.key) and number >= last.from_step:
            return  # compared before: what this process computes on does not change
        environment = self._executor_cache.device.environment(run.config, from_step=number)
        in_force = run.environment_at(number)
        if in_force is not None and in_force.same_bits(environment):
            self._conditions[run.key] = in_force
            return
        self._ledger.add_environment(run.key, environment)
        with self._registry.locked():
            run.environments = [s for s in run.environments if s.from_step < number] + [environment]
        self._conditions[run.key] = environment

    def _accept(self, run: Run, position: Position, results: list[Result]) -> None:
        """Take over applied steps; the lock is held."""
        run.position = position
        run.stepped_at = time.monotonic()
        self.steps_done += 1
        for result in results:
            if result.step > run.replay_until or self._differs(run, result):
                run.pending.append(result)
        run.check_divergence()

    def _differs(self, run: Run, result: Result) -> bool:
        """Compare a replayed step with the row it had."""
        stored = self._ledger.digest_at(run.key, result.step)
        if stored in (None, result.digest):
            return stored is None
        logger.warning("run %s: step %d came out differently in a replay", run.name, result.step)
        self._ledger.add_event(run.key, "replay_differs", f"step {result.step}, was {stored}")
        return True

    def _fail(self, run: Run, error: Exception) -> None:
        """Stop a run whose step broke; its state in memory is no longer to be trusted."""
        reason = str(error) if isinstance(error, OmegaError) else f"{type(error).__name__}: {error}"
        logger.error("run %s stopped at step %d", run.name, run.step + 1, exc_info=error)
        with self._registry.locked():
            run.failure = f"step {run.step + 1}: {reason}"
            run.executor = None
            waiting = run.take_waiting_inline()
        for task in waiting:
            task.done.set_exception(error)
        self._registry.notify(run.name)
        if isinstance(error, DeviceFailed):
            # Such an error sticks: every later call of this process would fail alike.
            self._fatal(reason)

    # --- leaving ---

    def _begin_flush(self) -> None:
        self._flush_due = time.monotonic() + FLUSH_SECONDS
        self._step_writer.begin_flush(self._registry.all())

    def _refuse_rest(self) -> None:
        error = Unavailable(_("the server is stopping"), retry_after=5)
        with self._registry.locked():
            self._stopping = True
            for request in self._requests:
                request.result.set_exception(error)
            for run in self._registry.all():
                for task in run.inline:
                    task.done.set_exception(error)


def _names(run: Run) -> dict[str, object]:
    return {"run": run.name, "step": run.step + 1}


def _under(names: Mapping[str, object], task: Callable[[], None]) -> None:
    """Do a task; what it logs belongs to these names."""
    with logs.log_context(**names):
        task()
