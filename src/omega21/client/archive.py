"""A run as one file, to be kept or taken to another machine: a zip of its folder.

In it is all that defines the run (run.json, plan.json, shards, results, log, checkpoint), not what
belongs to a machine (the lock, an embedded server's data, parts of downloads).
"""

import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from omega21.client.folder import RunFolder, run_folder_path
from omega21.data.durable import make_private_folder, open_private, sync_folder
from omega21.language import _
from omega21.protocol.errors import InvalidDataFile, OmegaError, RunFolderConflict

_MEMBER: Final = re.compile(
    r"(?P<run>[a-z0-9][a-z0-9_-]{0,62})/"
    r"(?P<name>run\.json|plan\.json|log\.jsonl|results\.sqlite|shards/[0-9a-f]{64}\.zst"
    r"|checkpoint/\d{12}\.(safetensors|sha256))"
)
"""What an archive may hold: a name that is anything else could lead out of the folder."""

_NEEDED: Final = {"run.json", "plan.json"}
_COMPRESSED: Final = {".zst", ".safetensors"}
_MADE_AT: Final = (1980, 1, 1, 0, 0, 0)


def export_run(run: str, path: Path, *, workdir: Path | None = None) -> int:
    """Write a run's archive and return its bytes; whole and on disk when it returns.

    Raises RunFolderConflict when `path` is there already, or a program works on the run.
    """
    if path.exists():
        raise RunFolderConflict(
            _("{path} is there already").format(path=path), hint=_("choose another --output")
        )
    folder = run_folder_path(run, workdir)
    part = path.with_name(f".{path.name}.part")
    with RunFolder.open(folder):
        try:
            with (
                open_private(part, "wb") as file,
                zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
            ):
                for name in _members(folder):
                    _add(archive, folder / name, f"{run}/{name}")
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    sync_folder(path.parent.resolve())
    return path.stat().st_size


def import_run(path: Path, *, workdir: Path | None = None) -> Path:
    """Make a run's folder from its archive; whole, checked and on disk when it returns.

    Raises InvalidDataFile when it is no such archive, and RunFolderConflict when a run of that name
    is here, or a newer version wrote it. Nothing is overwritten.
    """
    with _opened(path) as archive:
        run = _checked_run(archive, path)
        target = run_folder_path(run, workdir)
        if target.exists():
            raise RunFolderConflict(
                _("there is a run {run!r} on this machine already: {target}").format(
                    run=run, target=target
                ),
                hint=_("nothing was changed; import it with another --workdir, or remove that run"),
            )
        parent = target.parent
        if not parent.exists():
            make_private_folder(parent)
        needed = sum(member.file_size for member in archive.infolist())
        if needed > shutil.disk_usage(parent).free:
            raise RunFolderConflict(
                _("run {run} needs {needed} bytes, {parent} has no room for it").format(
                    run=run, needed=needed, parent=parent
                )
            )
        with tempfile.TemporaryDirectory(prefix=".import-", dir=parent) as scratch:
            _extract(archive, Path(scratch), path)
            _check_folder(Path(scratch) / run, run, path)
            (Path(scratch) / run).rename(target)
    sync_folder(parent)
    return target


def _members(folder: Path) -> Iterator[str]:
    """Name a folder's files that go into its archive."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and _MEMBER.fullmatch(f"run/{name}"):
            yield name


def _add(archive: zipfile.ZipFile, path: Path, name: str) -> None:
    member = zipfile.ZipInfo(name, _MADE_AT)  # the same run makes the same archive
    stored = path.suffix in _COMPRESSED
    member.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
    member.external_attr = 0o644 << 16
    member.file_size = path.stat().st_size
    with path.open("rb") as source, archive.open(member, "w") as sink:
        shutil.copyfileobj(source, sink, 2**20)


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
        raise _refused(
            path, _("it is damaged or no zip file: {error}").format(error=error)
        ) from error


def _checked_run(archive: zipfile.ZipFile, path: Path) -> str:
    """Return the one run whose files an archive holds, and nothing else."""
    names = [member.filename for member in archive.infolist()]
    found = [_MEMBER.fullmatch(name) for name in names]
    for name, match in zip(names, found, strict=True):
        if match is None:
            raise _refused(
                path, _("it holds {name!r}, which no run folder has").format(name=name[:100])
            )
    runs = {match["run"] for match in found if match}
    if len(runs) != 1 or len(set(names)) != len(names):
        raise _refused(path, _("it does not hold one run"))
    missing = _NEEDED - {match["name"] for match in found if match}
    if missing:
        raise _refused(path, _("it lacks {missing}").format(missing=", ".join(sorted(missing))))
    return runs.pop()


def _extract(archive: zipfile.ZipFile, folder: Path, path: Path) -> None:
    """Write an archive's files, whose names are checked; their sums are checked by reading."""
    for member in archive.infolist():
        target = folder / member.filename
        make_private_folder(target.parent)
        with archive.open(member) as source, open_private(target, "xb") as sink:
            shutil.copyfileobj(source, sink, 2**20)
        if target.stat().st_size != member.file_size:
            raise _refused(path, _("{filename} is cut short").format(filename=member.filename))


def _check_folder(folder: Path, run: str, path: Path) -> None:
    """Open what was extracted as the run folder that it is to be. Raises RunFolderConflict."""
    make_private_folder(folder / "shards")
    try:
        with RunFolder.open(folder) as opened:
            named = opened.record.run
    except RunFolderConflict as error:
        where = error.message.replace(str(folder), f"{path}: {run}")
        raise RunFolderConflict(where, hint=_("nothing was changed")) from error
    if named != run:
        raise _refused(path, _("its run.json is of run {named!r}").format(named=named))


def _refused(path: Path, why: str) -> OmegaError:
    return InvalidDataFile(
        _("{path} is no archive of a run: {why}").format(path=path, why=why),
        hint=_("nothing was changed"),
    )
