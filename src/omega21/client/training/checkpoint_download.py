"""Bringing a run's newest checkpoint down: in ranges where the link breaks, checked, then renamed.

A full checkpoint of the default model is about 144 MB. What has arrived stays in a `.part` file
named by step and digest, and the next attempt, of this command or another, goes on at its end as
long as the server has that very file.
"""

import re
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import IO, Final

import anyio
import httpx
from anyio.to_thread import run_sync

from omega21.client.api.api import Api
from omega21.client.api.checkpoints import Rest
from omega21.client.events import Event, Notice
from omega21.client.http.decoding import announced_bytes, check_room, step_of, too_long
from omega21.client.store.checkpoints import (
    HeldCheckpoint,
    checkpoint_folder,
    held_step,
    is_pulled,
    pulled_parts,
    read_checkpoint,
    remove_others,
    seal,
)
from omega21.client.store.run_folder import RunFolder
from omega21.client.training.options import Pull
from omega21.data.durable import (
    make_private_folder,
    naming,
    open_private,
    put_in_place,
    sync_file,
)
from omega21.language import _
from omega21.language.figures import decimal
from omega21.protocol.errors import (
    InvalidCheckpoint,
    NotOmega21,
    RunFolderConflict,
    UnknownCheckpoint,
)
from omega21.protocol.names import SHA256_PATTERN
from omega21.protocol.steps import MAX_WAIT_SECONDS

AUTO_SECONDS: Final = 60.0
"""Steps that took less are computed again sooner than a checkpoint is sent."""

DURABLE_SECONDS: Final = 120.0
"""Longest wait for the server to write its checkpoint of the last step."""

_DIGITS: Final = 12


class _Part:
    """A file on its way: the sink of a download, which goes on at its end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: IO[bytes] | None = None
        self._left = 0
        self.path: Path | None = None
        self.step, self.sha256 = 0, ""

    def take_up(self, path: Path) -> None:
        """Go on with a part that an earlier attempt left."""
        step, self.sha256, _part = path.name.split(".")
        self.step, self.path = int(step), path

    def rest(self) -> Rest | None:
        """Return what is left of a part that was begun; None for a new download."""
        self.close()
        if self.path is None:
            return None
        # The last byte once more, so that there is always something to ask for.
        return Rest(step=self.step, sha256=self.sha256, start=self._kept())

    def begin(self, status: int, headers: httpx.Headers) -> None:
        """Open the file that the reply belongs to, where the reply goes on.

        Raises InvalidCheckpoint where it is too large or of no size, OSError without room for it.
        """
        step, sha256 = _named(headers)
        size = announced_bytes(headers)
        if (step, sha256) != (self.step, self.sha256) or status != httpx.codes.PARTIAL_CONTENT:
            self.drop()
            self.step, self.sha256 = step, sha256
            self.path = self._folder / f"{step:0{_DIGITS}d}.{sha256}.part"
        assert self.path is not None
        kept = self._kept() if status == httpx.codes.PARTIAL_CONTENT else 0
        self._left = size - kept
        check_room(self._folder, self._left)
        self._file = open_private(self.path, "r+b" if self.path.exists() else "wb")
        self._file.truncate(kept)
        self._file.seek(kept)

    def write(self, chunk: bytes) -> None:
        """Append what came."""
        assert self._file is not None
        self._left -= len(chunk)
        if self._left < 0:
            raise too_long()
        assert self.path is not None
        with naming(self.path):
            self._file.write(chunk)

    def close(self) -> None:
        """Bring what came to the file."""
        if self._file is not None:
            assert self.path is not None
            with naming(self.path), self._file:
                sync_file(self._file)
            self._file = None

    def drop(self) -> None:
        """Forget what came."""
        self.close()
        if self.path is not None:
            self.path.unlink(missing_ok=True)
        self.path, self.step, self.sha256 = None, 0, ""

    def _kept(self) -> int:
        assert self.path is not None
        return max(0, self.path.stat().st_size - 1) if self.path.exists() else 0


async def pull_checkpoint(
    api: Api, run: str, *, folder: Path, not_before: int = 0
) -> HeldCheckpoint:
    """Download a run's newest checkpoint into `folder`; whole, checked and on disk when it returns.

    A part that an earlier attempt left is finished first, unless it is of a step before
    `not_before`. Other checkpoints that were pulled there are removed. Raises UnknownCheckpoint,
    InvalidCheckpoint when what arrived is not what the server named, RunFolderConflict where a
    file of its name is somebody else's.
    """
    await run_sync(make_private_folder, folder)
    part = _Part(folder)
    with closing(part):
        for path in await run_sync(pulled_parts, folder):
            if part.path is None and int(path.name.partition(".")[0]) >= not_before:
                part.take_up(path)
            else:
                path.unlink()
        try:
            await api.checkpoints.download(run, part, part="full", rest=part.rest)
        except UnknownCheckpoint:
            if part.path is None:
                raise
            part.drop()  # the server has a newer one by now
            await api.checkpoints.download(run, part, part="full", rest=part.rest)
        except InvalidCheckpoint:
            part.drop()
            raise
    return await run_sync(_take, part)


def _take(part: _Part) -> HeldCheckpoint:
    """Check a part that is whole, and put it in its place."""
    assert part.path is not None
    try:
        got = read_checkpoint(part.path)
        if got.sha256 != part.sha256:
            raise InvalidCheckpoint(
                _("the checkpoint of step {step} was damaged in transit").format(step=part.step),
                hint=_("it was discarded; download it again"),
            )
    except InvalidCheckpoint:
        part.drop()
        raise
    path = part.path.with_name(f"{part.step:0{_DIGITS}d}.safetensors")
    if not is_pulled(path):
        raise RunFolderConflict(
            _("{path} exists and is not a downloaded checkpoint").format(path=path),
            hint=_("nothing was changed; move it out of the run folder, and try again"),
        )
    path.unlink(missing_ok=True)  # the seal written next would not fit it; the part is whole
    seal(path, part.sha256)
    put_in_place(part.path, path)
    remove_others(path)
    return HeldCheckpoint(path, got.sha256, got.size, got.record)


def _named(headers: httpx.Headers) -> tuple[int, str]:
    step, sha256 = step_of(headers), headers.get("ETag", "").strip('"')
    if step is None or not re.fullmatch(SHA256_PATTERN, sha256):
        raise NotOmega21(_("a checkpoint arrived without its step or digest"))
    return step, sha256


async def wait_until_durable(api: Api, run: str, step: int) -> bool:
    """Wait until a run at rest has a checkpoint of `step`; False when it has not in two minutes.

    Long polls: the server answers when the checkpoint is written.
    """
    with anyio.move_on_after(DURABLE_SECONDS):
        while True:
            reply = await api.steps.read(run, after=step, wait=MAX_WAIT_SECONDS, limit=1)
            if reply.durable_step >= step:
                return True
            if reply.steps or reply.state != "idle":
                return False  # another client goes on with the run
    return False


class CheckpointDownloads:
    """Pulls the checkpoints of one run into its folder, when `policy` says so."""

    def __init__(
        self,
        api: Api,
        folder: RunFolder,
        *,
        policy: Pull,
        emit: Callable[[Event], Awaitable[None]],
    ) -> None:
        self._api = api
        self._folder = folder
        self._policy = policy
        self._emit = emit
        self._scope = anyio.CancelScope()

    def stop(self) -> None:
        """End `run`."""
        self._scope.cancel()

    def reached(self, _step: int) -> None:
        """Do nothing: checkpoints are pulled by the clock."""

    async def run(self) -> None:
        """Pull every so many seconds, until `stop`; return at once where that is not wanted."""
        if not isinstance(self._policy, float):
            return
        with self._scope:
            while True:
                await anyio.sleep(self._policy)
                await self.pull()

    async def at_end(self, step: int) -> None:
        """Pull the checkpoint of the last step, where that is wanted."""
        if not self._is_wanted_at_end() or (held_step(self._folder.path) or 0) >= step:
            return
        run = self._folder.record.run
        if await wait_until_durable(self._api, run, step):
            await self.pull(not_before=step)
        else:
            await self._emit(
                Notice(_("no checkpoint was downloaded: the server has not written one yet"))
            )

    async def pull(self, *, not_before: int = 0) -> None:
        """Pull the newest checkpoint, unless it is held already; a bad one is told, not kept."""
        folder = self._folder
        run, place = folder.record.run, checkpoint_folder(folder.path)
        position = await self._api.steps.read(run, after=2**53, limit=1)
        if position.durable_step <= (held_step(folder.path) or 0):
            return
        try:
            held = await pull_checkpoint(self._api, run, folder=place, not_before=not_before)
        except (InvalidCheckpoint, UnknownCheckpoint, RunFolderConflict, OSError) as error:
            await self._emit(Notice(_("no checkpoint was downloaded: {error}").format(error=error)))
            return
        await run_sync(lambda: folder.note("pulled", step=held.step, sha256=held.sha256))
        await self._emit(
            Notice(
                _("downloaded the checkpoint of step {step}, {size} MB").format(
                    step=held.step, size=decimal(held.size / 1e6, 0)
                )
            )
        )

    def _is_wanted_at_end(self) -> bool:
        if self._policy != "auto":
            return self._policy != "never"
        results = self._folder.results
        seconds = (results.seconds_per_step() or 0.0) * results.last_step
        return self._api.profile.is_local and seconds > AUTO_SECONDS
