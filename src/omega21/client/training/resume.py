"""Unfinished runs on this machine, and how to resume them."""

import shlex
from pathlib import Path

from omega21.client.request.request import TrainRequest
from omega21.client.store.run_folder import (
    RunRecord,
    list_run_folders,
    read_run_folder,
    run_folder_path,
    server_data_path,
)
from omega21.language import _, ngettext
from omega21.protocol.errors import RunFolderConflict, UnknownRun


def newest_unfinished(workdir: Path | None = None) -> RunRecord:
    """Return the newest run with an unfinished segment. Raises UnknownRun when there is none."""
    for record in list_run_folders(workdir):
        found, segments = read_run_folder(run_folder_path(record.run, workdir))
        if found.finished_segments < segments:
            return found
    raise UnknownRun(
        _("no run on this machine is unfinished"),
        hint=_("list them with `omega21 runs`; train more with `omega21 train --run NAME`"),
    )


def unfinished_request(run: str, workdir: Path | None = None) -> TrainRequest:
    """Return the request that finishes a run's last segment, as its folder holds it.

    Raises RunFolderConflict when there is nothing to finish, or no such folder.
    """
    path = run_folder_path(run, workdir)
    record, segments = read_run_folder(path)
    if not segments:
        raise RunFolderConflict(
            _("run {run} has no plan yet in {path}").format(run=run, path=path),
            hint=_("repeat the `omega21 train` command that created it"),
        )
    if record.finished_segments >= segments:
        raise RunFolderConflict(
            ngettext(
                "run {run} is finished: the one segment in {path} is trained",
                "run {run} is finished: all {segments} segments in {path} are trained",
                segments,
            ).format(run=run, segments=segments, path=path),
            hint=_("train more with: omega21 train --run {run}").format(run=run),
        )
    config = record.config
    return TrainRequest(
        run=run,
        seed=config.seed,
        validation=record.validation,
        evaluate_every=record.evaluate_every,
        task=config.task,
        sample_schema=config.sample_schema,
        optimizer=config.optimizer,
        precision=config.precision,
        deterministic=config.deterministic,
    )


def is_unfinished(run: str, workdir: Path | None = None) -> bool:
    """Whether a run has a folder here with an unfinished segment."""
    path = run_folder_path(run, workdir)
    if not (path / "run.json").exists():
        return False
    record, segments = read_run_folder(path)
    return record.finished_segments < segments


def was_local(record: RunRecord, workdir: Path | None = None) -> bool:
    """Whether the run's last server was a local server for this run."""
    path = server_data_path(record.run, workdir) / "server_id"
    if not path.exists():
        return False
    return record.server_id in (None, path.read_text(encoding="ascii").strip())


def resume_command(run: str, workdir: Path | None = None) -> str:
    """Return the command that resumes a run."""
    folder = ["--workdir", str(workdir)] if workdir is not None else []
    return shlex.join(["omega21", "resume", run, *folder])
