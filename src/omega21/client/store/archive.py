"""A run as one file, for storage or another machine: a zip of its folder.

It contains everything that defines the run (run.json, plan.json, shards, data that were given as
arrays, results, log, checkpoint), but not what belongs to a machine (the lock, a local server's
data, incomplete downloads).
"""

import lzma
import re
import shutil
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from omega21.client.store.run_folder import CODE, RunFolder, run_folder_path
from omega21.data.durable import (
    make_private_folder,
    naming,
    open_private,
    opened_durably,
    put_in_place,
    sync_tree,
)
from omega21.language import _
from omega21.protocol.errors import (
    BodyTooLarge,
    DiskFull,
    InvalidCode,
    InvalidDataFile,
    OmegaError,
    RunFolderConflict,
)
from omega21.protocol.plan import ShardRef
from omega21.protocol.printable import printable
from omega21.protocol.tasks.code import decode_code
from omega21.protocol.tasks.task import CodeTask

_MEMBER: Final = re.compile(
    r"(?P<run>[a-z0-9][a-z0-9_-]{0,62})/"
    r"(?P<name>run\.json|plan\.json|code\.bin|log\.jsonl|results\.sqlite|shards/[0-9a-f]{64}\.zst"
    r"|data/[0-9a-f]{64}\.safetensors|checkpoint/\d{12}\.(safetensors|sha256))"
)
"""The names that an archive may contain: any other could lead out of the folder."""

_NEEDED: Final = {"run.json", "plan.json"}
_FOLDERS: Final = {"shards", "checkpoint", "data"}
_COMPRESSED: Final = {".zst", ".safetensors", ".bin"}
_MADE_AT: Final = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Exported:
    """An archive's size, the number of samples in its run's plan, and of those missing in it."""

    size: int
    samples: int
    lacking: int


def export_run(run: str, path: Path, *, workdir: Path | None = None) -> Exported:
    """Write a run's archive; complete and on disk when it returns.

    Raises RunFolderConflict when `path` exists, a program works on the run, or a link in the
    folder has no target.
    """
    if path.exists():
        raise RunFolderConflict(
            _("{path} already exists").format(path=path), hint=_("choose another --output")
        )
    folder = run_folder_path(run, workdir)
    with RunFolder.open(folder) as opened, opened_durably(path) as file:
        refs = {ref.sha256: ref for segment in opened.segments for ref in segment.shards}
        members = list(_members(folder))
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in members:
                _add(archive, folder / name, f"{run}/{name}")
    lacking = [ref for ref in refs.values() if f"shards/{ref.sha256}.zst" not in members]
    return Exported(path.stat().st_size, _samples(refs.values()), _samples(lacking))


def import_run(path: Path, *, workdir: Path | None = None) -> Path:
    """Create a run's folder from its archive; complete, checked and on disk when it returns.

    Raises InvalidDataFile when it is not such an archive, and RunFolderConflict when a run of that
    name exists, or a newer version wrote it. Nothing is overwritten.
    """
    with _opened(path) as archive:
        run = _checked_run(archive, path)
        target = run_folder_path(run, workdir)
        if target.exists():
            raise RunFolderConflict(
                _("there is already a run {run!r} on this machine: {target}").format(
                    run=run, target=target
                ),
                hint=_("nothing was changed; import it with another --workdir, or remove that run"),
            )
        parent = target.parent
        if not parent.exists():
            make_private_folder(parent)
        needed = sum(member.file_size for member in archive.infolist())
        if needed > shutil.disk_usage(parent).free:
            raise DiskFull(
                _("run {run} needs {needed} bytes, which are not free in {parent}").format(
                    run=run, needed=needed, parent=parent
                ),
                hint=_("nothing was changed; make room, or import it with another --workdir"),
            )
        with tempfile.TemporaryDirectory(prefix=".import-", dir=parent) as scratch:
            _extract(archive, Path(scratch), path)
            _check_folder(Path(scratch) / run, run, path)
            sync_tree(Path(scratch) / run)
            put_in_place(Path(scratch) / run, target)
    return target


def _members(folder: Path) -> Iterator[str]:
    """Return the files of a folder that belong in its archive, following links."""
    for path in sorted(folder.iterdir()):
        if path.is_symlink() and not path.exists():
            raise RunFolderConflict(
                _("{path} is a link to a missing target").format(path=path),
                hint=_("restore its target, or remove the link"),
            )
        inside = sorted(path.iterdir()) if path.name in _FOLDERS and path.is_dir() else [path]
        for file in inside:
            name = file.relative_to(folder).as_posix()
            if file.is_file() and _MEMBER.fullmatch(f"run/{name}"):
                yield name


def _samples(refs: Iterable[ShardRef]) -> int:
    return sum(ref.samples for ref in refs)


def _add(archive: zipfile.ZipFile, path: Path, name: str) -> None:
    member = zipfile.ZipInfo(name, _MADE_AT)  # equal runs make equal archives
    stored = path.suffix in _COMPRESSED
    member.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
    member.external_attr = 0o644 << 16
    member.file_size = path.stat().st_size
    with path.open("rb") as source, archive.open(member, "w") as sink:
        shutil.copyfileobj(source, sink, 2**20)


_DAMAGED: Final = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, ValueError),
    RuntimeError,  # a password; a compression method that this Python lacks; nesting
)
"""Exceptions of zipfile and its codecs for a damaged archive."""


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except _DAMAGED as error:
        reason = printable(" ".join(str(error).split()), most=200)
        raise _refused(
            path, _("it is damaged or not a zip file: {error}").format(error=reason)
        ) from error


def _checked_run(archive: zipfile.ZipFile, path: Path) -> str:
    """Return the run of an archive that contains exactly one run's files."""
    names = [member.filename for member in archive.infolist()]
    found = [_MEMBER.fullmatch(name) for name in names]
    for name, match in zip(names, found, strict=True):
        if match is None:
            raise _refused(
                path,
                _("it contains {name!r}, which does not belong to a run folder").format(
                    name=name[:100]
                ),
            )
    runs = {match["run"] for match in found if match}
    if len(runs) != 1 or len(set(names)) != len(names):
        raise _refused(path, _("it does not contain exactly one run"))
    missing = _NEEDED - {match["name"] for match in found if match}
    if missing:
        raise _refused(path, _("{missing} is missing").format(missing=", ".join(sorted(missing))))
    return runs.pop()


def _extract(archive: zipfile.ZipFile, folder: Path, path: Path) -> None:
    """Extract an archive's files with checked names; reading checks their checksums."""
    for member in archive.infolist():
        target = folder / member.filename
        make_private_folder(target.parent)
        with archive.open(member) as source, open_private(target, "xb") as sink, naming(target):
            shutil.copyfileobj(source, sink, 2**20)
            sink.flush()
        if target.stat().st_size != member.file_size:
            raise _refused(path, _("{filename} is truncated").format(filename=member.filename))


def _check_folder(folder: Path, run: str, path: Path) -> None:
    """Open the extracted folder as a run folder. Raises RunFolderConflict."""
    make_private_folder(folder / "shards")
    try:
        with RunFolder.open(folder) as opened:
            named = opened.record.run
            opened.results.check()
            _check_code(opened)
    except RunFolderConflict as error:
        where = error.message.replace(str(folder), f"{path}: {run}")
        raise RunFolderConflict(where, hint=_("nothing was changed")) from error
    if named != run:
        raise _refused(path, _("its run.json is of run {named!r}").format(named=named))


def _check_code(folder: RunFolder) -> None:
    """Raise RunFolderConflict for a source that is not the run's, whole and unchanged."""
    body, task = folder.code(), folder.record.config.task
    if body is None:
        return
    try:
        if not isinstance(task, CodeTask):
            raise InvalidCode(_("the run's task is not the user's own"))
        decode_code(body, task.code_sha256)
    except (InvalidCode, BodyTooLarge) as error:
        raise RunFolderConflict(
            _("{path}: {reason}").format(path=folder.path / CODE, reason=error.message)
        ) from error


def _refused(path: Path, why: str) -> OmegaError:
    return InvalidDataFile(
        _("{path} is not the archive of a run: {why}").format(path=path, why=why),
        hint=_("nothing was changed"),
    )
