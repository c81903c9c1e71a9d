"""The engine: composes the parts that store and train the runs of one data folder.

Callers use the parts directly, from any thread. What a client relies on (a run, a segment, a
target, a batch, feedback) is on disk before the call returns; a call that raises changes nothing.
Imports neither HTTP nor torch.
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from omega21.engine.checkpointing import Checkpointer
from omega21.engine.checkpoints import Checkpoints
from omega21.engine.executor_cache import ExecutorCache
from omega21.engine.inference import Inference
from omega21.engine.inline import InlineBatches
from omega21.engine.options import EngineOptions
from omega21.engine.plans import Plans
from omega21.engine.registry import Registry
from omega21.engine.reporting.events import Events
from omega21.engine.reporting.history import History
from omega21.engine.reporting.statistics import Statistics
from omega21.engine.reporting.step_records import StepRecords
from omega21.engine.runs import Runs
from omega21.engine.shards import Shards
from omega21.engine.step_writer import StepWriter
from omega21.engine.storage.data_folder import DataFolder
from omega21.engine.tasks.code import Code
from omega21.engine.tasks.probe import Probe
from omega21.engine.worker import Worker
from omega21.executors.base import Device
from omega21.executors.devices import find_device
from omega21.executors.options import DeviceOptions

logger = logging.getLogger(__name__)


class Engine:
    """Trains the runs of one data folder.

    Raises RunFolderConflict when another engine has the folder or another version wrote it,
    ImportError without torch; `device.check` tells of a missing device. `fatal(reason)` is called
    when this process cannot compute any more and has to be replaced; by default that is logged.
    `accepted(sha256)` is called for each source of a user that is stored.
    """

    def __init__(
        self,
        data_dir: Path,
        options: EngineOptions | None = None,
        *,
        fatal: Callable[[str], None] = logger.critical,
        accepted: Callable[[str], None] = lambda _sha256: None,
        find_device: Callable[[DeviceOptions], Device] = find_device,
    ) -> None:
        self.options = options = options or EngineOptions()
        self.folder = folder = DataFolder(data_dir, options)
        try:
            self.device = device = find_device(replace(options, code_folder=data_dir / "code"))
        except BaseException:
            folder.close()
            raise
        ledger = folder.ledger
        self.registry = registry = Registry(ledger)
        writer = StepWriter(registry, ledger)
        self.checkpointer = Checkpointer(registry, folder, step_writer=writer, options=options)
        self.code = code = Code(registry, folder, options=options, accepted=accepted)
        cache = ExecutorCache(
            registry,
            folder,
            device=device,
            checkpointer=self.checkpointer,
            code=code,
            most=options.resident_runs,
        )
        self.worker = worker = Worker(
            registry,
            folder,
            step_writer=writer,
            executor_cache=cache,
            checkpointer=self.checkpointer,
            fatal=fatal,
        )
        self.inference = Inference(registry, folder, worker=worker, device=device)
        self.runs = Runs(
            registry,
            folder,
            executor_cache=cache,
            inference=self.inference,
            code=code,
            most=options.max_runs,
        )
        self.plans = Plans(registry, folder)
        self.probe = Probe(folder, device, code)
        self.shards = Shards(registry, folder)
        self.inline = InlineBatches(registry, folder, worker=worker)
        self.checkpoints = Checkpoints(
            registry, folder, runs=self.runs, executor_cache=cache, worker=worker
        )
        self.step_records = StepRecords(registry, folder)
        self.events = Events(registry, folder, step_writer=writer, options=options)
        self.history = History(registry, folder, step_writer=writer, events=self.events)
        self.statistics = Statistics(
            registry, folder, step_writer=writer, device=device, options=options, code=code
        )

    def start(self) -> None:
        """Load the runs from disk and continue them."""
        self.events.start()
        self.runs.load()
        self.worker.start()
        if self.folder.mirror is not None:
            self.folder.mirror.start()

    def stop(self, timeout: float = 10.0) -> bool:
        """Stop after the current step and write everything; False if `timeout` was too short.

        Calls that need no computation are answered until `close`.
        """
        return self.worker.stop(timeout)

    def close(self) -> None:
        """Release the folder, after `stop`; nothing may use the engine any more."""
        self.checkpointer.close()
        self.events.close()
        self.device.close()
        self.folder.close()
