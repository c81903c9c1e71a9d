"""The users' source on this server: consent, storage, requirements.

Nothing of it is imported here; an executor does that, after `prepare`.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass

from omega21.engine.options import EngineOptions
from omega21.engine.registry import Registry
from omega21.engine.storage.data_folder import DataFolder
from omega21.language import _
from omega21.protocol.errors import CodeNotAllowed, UnknownCode
from omega21.protocol.names import Sha256
from omega21.protocol.tasks.code import CodeReply, CodeStored, Offer, decode_code
from omega21.protocol.tasks.task import CodeTask, Task

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Code:
    """Stores source that the server's owner allows, and readies it for executors.

    `accepted` is called with the digest of each source that is stored.
    """

    registry: Registry
    folder: DataFolder
    _: KW_ONLY
    options: EngineOptions
    accepted: Callable[[str], None] = lambda _sha256: None

    def describe(self) -> CodeReply:
        """Return what is allowed, and which source the server itself was started with."""
        offers = [Offer(entry=entry, sha256=sha256) for entry, sha256 in self.options.offers]
        return CodeReply(
            allowed=self.options.allow_code.texts(),
            install=self.options.allow_install,
            offers=offers,
        )

    def put(self, sha256: str, body: bytes) -> CodeStored:
        """Store a source; the same again changes nothing. Durable.

        Raises CodeNotAllowed, InvalidCode, BodyTooLarge, StorageFull.
        """
        self.check_allowed(sha256)
        files = decode_code(body, sha256)
        stored = self.folder.code.put(sha256, body, pinned=self._pinned())
        size = sum(map(len, files.values()))
        if stored:
            logger.warning("source sha256:%s accepted: %d files, %d B", sha256, len(files), size)
            self.accepted(sha256)
        self._continue(sha256)
        return CodeStored(sha256=sha256, files=len(files), bytes=size, stored=stored)

    def read(self, sha256: str) -> bytes:
        """Return the body of a source. Raises UnknownCode."""
        return self.folder.code.read(sha256)

    def missing(self, names: Sequence[Sha256]) -> list[Sha256]:
        """Return the sources in `names` that are missing."""
        return [name for name in names if name not in self.folder.code]

    def check_allowed(self, sha256: str) -> None:
        """Raise CodeNotAllowed unless the server's owner allows a source."""
        allowed = self.options.allow_code
        if allowed.allows(sha256):
            return
        if not allowed.digests:
            raise CodeNotAllowed(_("this server executes no source of its users"))
        raise CodeNotAllowed(
            _("this server does not allow source {sha256}").format(sha256=sha256[:12]),
            hint=_("its owner allows it with `omega21 serve --allow-code sha256:{sha256}`").format(
                sha256=sha256
            ),
        )

    def admit(self, task: Task) -> None:
        """Check that a task may be created here, and install what it needs; changes no run.

        Raises CodeNotAllowed, UnknownCode, InstallFailed, Unavailable while it is being installed.
        """
        if not isinstance(task, CodeTask):
            return
        self.check_allowed(task.code_sha256)
        if task.code_sha256 not in self.folder.code:
            raise UnknownCode(
                _("source {sha256} is not on this server").format(sha256=task.code_sha256[:12])
            )
        if self.folder.requirements.has(task.requirements):
            return
        if not self.options.allow_install:
            raise CodeNotAllowed(
                _("this server installs no requirements: {names}").format(
                    names=", ".join(task.requirements)
                ),
                hint=_(
                    "its owner allows it with `omega21 serve --allow-code --allow-install`; or "
                    "install them there and leave out --install"
                ),
            )
        self.folder.requirements.install(task.requirements)

    def prepare(self, task: Task) -> None:
        """Ready a task for an executor: its files are in its folder, unchanged.

        Raises as `admit` does.
        """
        self.admit(task)
        if isinstance(task, CodeTask):
            self.folder.code.unpack(task.code_sha256)

    def _pinned(self) -> frozenset[str]:
        tasks = [run.config.task for run in self.registry.all()]
        of_runs = {task.code_sha256 for task in tasks if isinstance(task, CodeTask)}
        return frozenset(of_runs | {sha256 for _entry, sha256 in self.options.offers})

    def _continue(self, sha256: str) -> None:
        """Let the runs that failed for want of this source go on."""
        for run in self.registry.all():
            task = run.config.task
            if isinstance(task, CodeTask) and task.code_sha256 == sha256:
                with self.registry.locked():
                    if run.failure_code == UnknownCode.code:
                        run.failure = run.failure_code = None
                self.registry.changed(run.name)
