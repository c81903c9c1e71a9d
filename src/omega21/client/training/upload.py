"""Uploads a segment's samples while the server trains.

Three things are concurrent: a worker thread creates and encodes shards and writes them to the run
folder, up to the end of the segment (pending shards are on disk, not in memory); several requests
upload shards; and the server trains what it has.

A shard is listed in the plan before its upload: the server then keeps it until no step needs it,
and reports which shards it already has. A list contains all shards encoded so far, so that a few
lists are enough on a slow link; and through a tunnel, which counts requests, each list is at least
as long as all before it.
"""

import time
from collections import deque
from collections.abc import Awaitable, Callable
from itertools import accumulate
from typing import Final, TypeVar

import anyio
from anyio.to_thread import run_sync

from omega21.client.api.api import Api
from omega21.client.concurrency import run_all
from omega21.client.events import Event, Notice, UploadProgress
from omega21.client.http.retry import asked_wait
from omega21.client.request.sources import SampleSource, open_source
from omega21.client.store.run_folder import RunFolder
from omega21.client.training.upload_rate import MOST, UploadRate
from omega21.data.samples import as_type
from omega21.language import _
from omega21.protocol.digests import tensors_sha256
from omega21.protocol.errors import (
    BodyTooLarge,
    Conflict,
    InvalidShard,
    RequestRefused,
    RunFolderConflict,
    StorageFull,
)
from omega21.protocol.plan import Segment, ShardRef
from omega21.protocol.shards import decode_shard, encode_shard, samples_per_shard

_Sent = TypeVar("_Sent")

MAX_MISSING: Final = 1000
"""A reply with this number of missing shards may be truncated."""

LISTING_SHARE: Final = 10
"""Minimum time between two lists, as a multiple of the duration of the last one, unless all shards
are encoded. Not before the second one: the first has a single shard, and then the link is idle."""

FULL_SECONDS: Final = 5.0
"""Pause when the server is full and does not say for how long."""

FULL_PATIENCE_SECONDS: Final = 7200.0
"""Maximum wait for space: the server removes unused shards after an hour."""


def waiting_for_room(full: StorageFull) -> Notice:
    """Emit a notice that the server is full and the upload waits."""
    return Notice(_("waiting for space on the server: {message}").format(message=full.message))


async def when_there_is_room(
    send: Callable[[], Awaitable[_Sent]], *, tell: Callable[[StorageFull], Awaitable[None]]
) -> _Sent:
    """Send, with retries while the server is full: it frees space as it trains.

    Raises StorageFull when it had no space for hours.
    """
    give_up_at = time.monotonic() + FULL_PATIENCE_SECONDS
    while True:
        try:
            return await send()
        except StorageFull as full:
            left = give_up_at - time.monotonic()
            if left <= 0:
                raise
            await tell(full)
            await anyio.sleep(min(asked_wait(full.retry_after) or FULL_SECONDS, left))


def is_shard(body: bytes, sha256: str) -> bool:
    """Whether an encoded shard is complete and matches its digest."""
    try:
        return tensors_sha256(decode_shard(body)) == sha256
    except (InvalidShard, BodyTooLarge):
        return False


class SegmentUpload:
    """The upload of one segment from the run folder to the server.

    `prepare` first; `announce` puts the segment into the server's plan; `run` returns when the
    server has every sample on its disk.
    """

    def __init__(
        self,
        api: Api,
        folder: RunFolder,
        *,
        number: int,
        emit: Callable[[Event], Awaitable[None]],
    ) -> None:
        self._api = api
        self._folder = folder
        self.number = number
        self.skipped_samples = 0
        self._emit = emit
        self._source: SampleSource | None = None
        self._made: list[ShardRef] = []  # in the folder, not listed yet
        self._encoded_samples = self.segment.listed_samples
        self._announced = 0  # shards whose state on the server is known
        self._waiting: deque[tuple[int, ShardRef]] = (
            deque()
        )  # listed and missing: (position, shard)
        self._uploaded_samples = 0
        self._bytes_sent = 0
        self._next_list_at = 0.0
        self._more = anyio.Event()
        self._turn = anyio.Lock()
        self._pace = UploadRate()
        self._slots = anyio.CapacityLimiter(self._pace.at_a_time)
        self._is_local = api.profile.is_local
        self._told_full = False

    @property
    def segment(self) -> Segment:
        """The segment as it is listed in the run folder."""
        return self._folder.segments[self.number]

    @property
    def bytes_sent(self) -> int:
        """Uploaded bytes of shards."""
        return self._bytes_sent

    async def prepare(self) -> None:
        """Encode the first shard if there is none, so that the first list is not empty."""
        if not self.segment.shards:
            await self._encode_one()

    async def announce(self) -> None:
        """List all encoded shards, here and then on the server, and record which ones it lacks.

        On disk here before it is sent, and there on return.
        """
        start, is_first = time.monotonic(), not self._announced
        made, self._made = self._made, []
        if made:
            shards = (*self.segment.shards, *made)
            grown = self.segment.model_copy(update={"shards": shards})
            await run_sync(self._folder.put_segment, self.number, grown)
        record, segment = self._folder.record, self.segment
        stored = await self._api.plans.put_segment(
            record.run, self.number, run_id=record.id, segment=segment
        )
        new = segment.shards[self._announced :]
        missing = stored.missing
        if len(missing) >= MAX_MISSING:
            missing = await self._api.shards.missing([ref.sha256 for ref in new])
        self._sort(new, set(missing))
        now = time.monotonic()
        self._pace.asked(now - start)
        self._next_list_at = now + (1 if is_first else LISTING_SHARE) * (now - start)

    async def run(self) -> None:
        """Encode, list and upload the rest of the segment.

        Raises StorageFull when the server had no space for hours, RunFolderConflict when a shard
        cannot be created again.
        """
        if not self._announced:
            await self.announce()
        await run_all(self._make, *[self._carry] * MOST)

    def skip(self, samples: int) -> None:
        """Skip the shards of the segment's first samples, which no step needs any more."""
        self.skipped_samples = samples
        ends = list(accumulate(ref.samples for ref in self.segment.shards))
        needed = deque((place, ref) for place, ref in self._waiting if ends[place] > samples)
        self._uploaded_samples += sum(ref.samples for _, ref in self._waiting)
        self._uploaded_samples -= sum(ref.samples for _, ref in needed)
        self._waiting = needed

    def _sort(self, new: tuple[ShardRef, ...], missing: set[str]) -> None:
        """Queue the newly announced shards that the server lacks; count the others."""
        for place, ref in enumerate(new, self._announced):
            if ref.sha256 in missing:
                missing.discard(ref.sha256)  # an equal shard of the segment needs no second upload
                self._waiting.append((place, ref))
            else:
                self._uploaded_samples += ref.samples
        self._announced += len(new)

    # --- encoding
    # -----------------------------------------------------------------------------------

    async def _make(self) -> None:
        await self._tell()
        while self._encoded_samples < self.segment.samples:
            await self._encode_one()
            await self._tell()

    async def _encode_one(self) -> None:
        start = self._encoded_samples
        size = samples_per_shard(self._folder.record.config.sample_schema)
        stop = min(start + size, self.segment.samples)
        level = self._pace.level(len(self._made) + len(self._waiting))
        name, body = await run_sync(lambda: self._encode(start, stop, level=level))
        await run_sync(self._folder.put_shard, name, body)
        self._made.append(ShardRef(sha256=name, samples=stop - start))
        self._encoded_samples = stop
        self._more.set()

    def _encode(self, start: int, stop: int, *, level: int) -> tuple[str, bytes]:
        """Encode samples start to stop of the segment: the shard's digest and its encoded body."""
        if self._source is None:
            self._source = open_source(
                self.segment, self._folder.files, config=self._folder.record.config
            )
        samples = self._source.block(start, stop)
        schema = self._folder.record.config.sample_schema
        tensors = as_type(samples, self.segment.samples_type, schema=schema)
        return tensors_sha256(tensors), encode_shard(tensors, level=level)

    # --- uploading
    # ---------------------------------------------------------------------------------

    async def _carry(self) -> None:
        while True:
            async with self._slots:
                shard = await self._next()
                if shard is None:
                    return
                place, ref = shard
                body = await run_sync(self._body, place, ref)
                await self._put(ref.sha256, body)
            self._uploaded_samples += ref.samples
            self._bytes_sent += len(body)
            self._pace.sent(len(body))
            self._slots.total_tokens = self._pace.at_a_time
            await self._tell()

    async def _next(self) -> tuple[int, ShardRef] | None:
        """Return the next shard to upload, None at the end; send a list when it is due."""
        async with self._turn:
            while not self._waiting:
                if self._made and self._is_list_due():
                    await self.announce()
                    await self._tell()  # the server may have some of it from another run
                elif self.segment.is_whole:
                    return None
                else:
                    await self._wait_for_more()
            await anyio.sleep(self._pace.next_start_in)
            self._pace.started()
            return self._waiting.popleft()

    def _is_list_due(self) -> bool:
        everything = self._encoded_samples == self.segment.samples
        return everything or (self._is_list_long() and time.monotonic() >= self._next_list_at)

    def _is_list_long(self) -> bool:
        return len(self._made) >= (1 if self._is_local else self._announced)

    async def _wait_for_more(self) -> None:
        """Wait until another shard is encoded, or until a list is due."""
        self._more = anyio.Event()
        left = self._next_list_at - time.monotonic() if self._is_list_long() else None
        with anyio.move_on_after(left):
            await self._more.wait()

    def _body(self, place: int, ref: ShardRef) -> bytes:
        """Read a shard from the run folder, or create it again if it is missing or damaged."""
        body = self._folder.shard(ref.sha256)
        if body is not None and is_shard(body, ref.sha256):
            return body
        path = self._folder.shard_path(ref.sha256)
        found = _("is missing") if body is None else _("is damaged")
        start = sum(before.samples for before in self.segment.shards[:place])
        level = self._pace.level(len(self._waiting))
        try:
            name, made = self._encode(start, start + ref.samples, level=level)
        except (RequestRefused, Conflict) as error:
            raise RunFolderConflict(
                _("{path} {found}, and cannot be created again: {why}").format(
                    path=path, found=found, why=error.message
                ),
                hint=_("restore it from a copy, or restore its data file"),
            ) from error
        if name != ref.sha256:
            raise RunFolderConflict(
                _("{path} {found}, and its samples are now different").format(
                    path=path, found=found
                ),
                hint=_("restore it from a copy, or restore its data file"),
            )
        if body is not None:
            self._folder.put_shard_again(name, made)
        return made

    async def _put(self, name: str, body: bytes) -> None:
        """Upload a shard, when the server has space for it."""

        async def tell(full: StorageFull) -> None:
            if not self._told_full:
                self._told_full = True
                await self._emit(waiting_for_room(full))

        await when_there_is_room(lambda: self._api.shards.put(name, body), tell=tell)

    async def _tell(self) -> None:
        await self._emit(
            UploadProgress(
                generated=self._encoded_samples,
                uploaded=self._uploaded_samples,
                samples=self.segment.samples,
                bytes_sent=self._bytes_sent,
            )
        )
