"""The end of a segment: its evaluation, its checkpoint, and the summary of what was trained."""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from anyio.to_thread import run_sync

from omega21.client.api.api import Api
from omega21.client.events import Done, Event, How, Notice, ServerSeen
from omega21.client.inference import score
from omega21.client.loggers.feeding import Feeds
from omega21.client.request.request import TrainRequest
from omega21.client.request.sources import validation_blocks
from omega21.client.store.run_folder import RunFolder
from omega21.client.store.summary import Scored, summarise
from omega21.client.training.checkpoint_download import CheckpointDownloads
from omega21.client.training.evaluation import held_out_count, note_evaluation
from omega21.client.training.locked_files import when_unlocked
from omega21.client.training.not_finite import name_held_out_rows, name_rows_of_steps
from omega21.client.training.options import TrainOptions
from omega21.client.training.provenance import changed_at, note_environment
from omega21.client.training.upload import waiting_for_room, when_there_is_room
from omega21.language import _
from omega21.protocol.errors import InvalidReply, StorageFull
from omega21.protocol.evaluations import Evaluation
from omega21.protocol.plan import Segment, plan_steps

VECTOR_POINTS: Final = 48
"""Steps whose vectors are stored: the columns of a heat map."""


@dataclass(frozen=True, kw_only=True)
class SegmentJob:
    """The segment to train, whether it is new, and what it is trained with.

    `start` is when the command began, by the monotonic clock.
    """

    api: Api
    folder: RunFolder
    number: int
    how: How
    request: TrainRequest
    options: TrainOptions
    gather_seconds: float
    feeds: Feeds
    emit: Callable[[Event], Awaitable[None]]
    start: float

    @property
    def segment(self) -> Segment:
        """The segment as it is listed in the run folder."""
        return self.folder.segments[self.number]

    def downloads(self) -> CheckpointDownloads:
        """Return what pulls the run's checkpoints."""
        return CheckpointDownloads(self.api, self.folder, policy=self.options.pull, emit=self.emit)


async def finish_segment(job: SegmentJob) -> None:
    """Evaluate, record that the segment is finished, and tell its figures."""
    folder, segment = job.folder, job.segment
    run = folder.record.run
    evaluation = await _evaluate(job)
    status = await job.api.legacy.status(run)
    await job.emit(ServerSeen(status))
    state = await job.api.runs.state(run)
    last_step = plan_steps(folder.segments[: job.number + 1])
    first = folder.results.row(last_step - segment.steps + 1)
    last = folder.results.row(last_step)
    assert first is not None
    assert last is not None
    await note_environment(folder, state.environments, emit=job.emit)
    await when_unlocked(
        lambda: folder.results.put_weights(state.step, state.weights_sha256), emit=job.emit
    )
    await _keep_vectors(job)
    environments = await run_sync(folder.results.environments)
    non_finite = folder.results.non_finite_steps(first=first.step, last=last.step)
    summary = summarise(
        run,
        segment,
        ends=(first, last),
        evaluation=evaluation,
        seconds=time.monotonic() - job.start,
        weights_sha256=state.weights_sha256,
        non_finite_steps=len(non_finite),
        deterministic=folder.record.config.deterministic,
        environment_changed_at=changed_at(environments, first=first.step, last=last.step),
        task=folder.record.config.task.kind,
    )
    await job.downloads().at_end(last_step)
    server = status.model_dump(mode="json")
    await run_sync(lambda: folder.note("finished", **summary.as_dict(), server=server))
    await run_sync(lambda: folder.update(finished_segments=job.number + 1))
    if non_finite:
        await job.emit(Notice(await _name_non_finite(job, non_finite)))
    for text in await run_sync(job.feeds.finish):
        await job.emit(Notice(text))
    await job.emit(Done(summary, state, evaluation))


async def _keep_vectors(job: SegmentJob) -> None:
    """Store the run's vectors over all steps, at the resolution that a report shows."""
    series = await job.api.steps.series(job.folder.record.run, points=VECTOR_POINTS)
    points = series.points
    try:
        vectors = {name: found.array() for name, found in (points.vectors or {}).items()}
        if any(len(values) != len(points.step) for values in vectors.values()):
            raise ValueError(_("vectors of other steps"))
    except ValueError as error:
        raise InvalidReply(_("the vectors cannot be read: {why}").format(why=error)) from error
    await when_unlocked(lambda: job.folder.results.put_vectors(points.step, vectors), emit=job.emit)


async def _name_non_finite(job: SegmentJob, steps: Sequence[int]) -> str:
    folder = job.folder
    where = await run_sync(
        lambda: name_rows_of_steps(
            folder.segments, steps, files=folder.files, config=folder.record.config
        )
    )
    text = _("{count} of {steps} steps changed nothing: loss or gradient was not finite").format(
        count=len(steps), steps=job.segment.steps
    )
    return f"{text}: {where}" if where else text


async def _evaluate(job: SegmentJob) -> Evaluation | None:
    """Score held-out samples of the segment's source, as many as were asked for and exist."""
    record, segment, wanted = job.folder.record, job.segment, job.request.validation
    files = job.folder.files
    count = held_out_count(job.folder, segment, wanted)
    if count < wanted:
        await job.emit(
            Notice(
                _("validation on {count} samples: there are too few rows to hold out more").format(
                    count=count
                )
            )
        )
    if not count:
        return None

    async def evaluate() -> Scored:  # what is up already is not sent again
        blocks = validation_blocks(segment.source, count, files=files, config=record.config)
        return await score(
            job.api,
            record.run,
            blocks=blocks,
            samples_type=segment.samples_type,
            schema=record.config.sample_schema,
        )

    async def tell(full: StorageFull) -> None:
        await job.emit(waiting_for_room(full))

    scored = await when_there_is_room(evaluate, tell=tell)
    scores = scored.scores
    if scores is not None and scored.evaluation.not_finite:
        where = await run_sync(
            lambda: name_held_out_rows(segment.source, scores, files=files, config=record.config)
        )
        await job.emit(
            Notice(
                _("{count} of {samples} held-out samples score NaN or infinite: {where}").format(
                    count=scored.evaluation.not_finite, samples=count, where=where
                )
            )
        )
    await note_evaluation(job.api, job.folder, scored, number=job.number, emit=job.emit)
    return scored.evaluation
