"""The run folder: everything that defines a run, in plain files on the user's machine.

    run.json         format, name, id, configuration, when made, server last used
    plan.json        the segments, their lists of shards included
    shards/          encoded bodies as they are sent, named by digest
    results.sqlite   one row a step
    log.jsonl        events, append-only
    code.bin         the source of a task of the user's own, as it is sent
    data/            samples that were given as arrays, named by digest
    checkpoint/      the newest downloaded checkpoint, and its digest
    verify/          the copy of the run that `omega21 verify` executes, while it does
    loggers/         the cursor of each logger; event files are in tensorboard/ and wandb/
    report.*         the report of the newest training: HTML, or Markdown and its images
    server/          the data folder of a local server, if there is one
    .lock            locked by the program that works on the run

A crash loses nothing that a method's docstring calls on disk. A server never knows more shards of
a plan than plan.json, since a list is written here before it is sent.
"""

import json
import re
import secrets
import shutil
import time
from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TypeAlias, TypeVar

import platformdirs
from pydantic import Field, ValidationError

from omega21.client.store.kept_paths import KeptPath
from omega21.client.store.results import Results
from omega21.data.durable import (
    append_durably,
    make_private_folder,
    sync_folder,
    write_durably,
)
from omega21.data.failures import storage_failure
from omega21.data.locks import hold_lock
from omega21.data.sources.files import DataSet
from omega21.language import _
from omega21.protocol.errors import OmegaError, RunFolderConflict
from omega21.protocol.messages import Document
from omega21.protocol.names import RunId, RunName
from omega21.protocol.plan import Segment, ShardRef
from omega21.protocol.runs import RunConfig

CODE: Final = "code.bin"
FOLDER_FORMAT: Final = 1

_UNREADABLE: Final = (
    *(OSError, ValueError, TypeError, KeyError, ValidationError),
    *(OverflowError, RecursionError),  # an infinite number, deep nesting
)

_ENTRY: Final = re.compile(
    r"(run|plan)\.json|code\.bin|shards|results\.sqlite(-journal)?|log\.jsonl|checkpoint|data|verify|server|\.lock"
    r"|loggers|tensorboard|wandb|report\.(html|md)|report-[A-Za-z0-9_.-]+\.png"
    r"|\..+\.\d+-\d+\.tmp"  # the temporary file of a killed program, see `opened_durably`
)
"""The names that a run folder may contain."""

_Stored = TypeVar("_Stored", bound=Document)

EvaluateEvery: TypeAlias = Literal["epoch", "never"] | Annotated[int, Field(ge=1)]
"""When held-out samples are scored on the way: at the ends of epochs, where that takes no more than
a tenth of the time; every so many steps; never."""


class RunRecord(Document):
    """The content of run.json."""

    format: int = FOLDER_FORMAT
    run: RunName
    id: RunId
    config: RunConfig
    created_at: float = Field(ge=0, lt=1e11, description="seconds since 1970")
    server: str | None = Field(default=None, description="address last used")
    server_id: str | None = None
    finished_segments: int = Field(default=0, description="trained, evaluated and reported")
    validation: int = Field(
        default=1000, ge=0, description="samples scored at the end of the segment under way"
    )
    evaluate_every: EvaluateEvery = Field(default="epoch", description="the same on the way")
    uplink: float | None = Field(
        default=None, description="bytes per second that samples last went up with"
    )
    held_out: dict[str, int] = Field(
        default_factory=dict, description="samples of a data file never trained, by its digest"
    )
    files: dict[str, KeptPath] = Field(default_factory=dict, description="data files, by digest")


class _StoredPlan(Document):
    format: int = FOLDER_FORMAT
    segments: tuple[Segment, ...] = ()


class RunFolder:
    """One run's folder, locked by one program at a time; opened by `create` or `open`."""

    def __init__(self, path: Path, *, record: RunRecord, held: ExitStack) -> None:
        self.path = path
        self.shards = path / "shards"
        self.record = record
        self.segments = _read(path / "plan.json", _StoredPlan).segments
        self.results = held.enter_context(closing(Results(path / "results.sqlite")))
        self._held = held

    @classmethod
    def create(cls, path: Path, record: RunRecord) -> Self:
        """Create the folder of a new run and lock it; on disk when it returns.

        Raises RunFolderConflict when it exists.
        """
        make_private_folder(path)
        with ExitStack() as stack:
            _hold(path, stack)
            if (path / "run.json").exists():
                raise RunFolderConflict(_("there is already a run in {path}").format(path=path))
            make_private_folder(path / "shards")
            _write(path / "plan.json", _StoredPlan())
            # Last, because the folder is a run's once this file exists.
            _write(path / "run.json", record)
            folder = cls(path, record=record, held=stack)
            folder._held = stack.pop_all()
        folder.note("created", run=record.run, id=record.id)
        return folder

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open and lock the folder of a run.

        Raises RunFolderConflict when another program has it locked, a newer version wrote it, or
        it is damaged.
        """
        with ExitStack() as stack:
            _hold(path, stack)
            make_private_folder(path)  # an older omega21 gave others access
            folder = cls(path, record=_read(path / "run.json", RunRecord), held=stack)
            folder._held = stack.pop_all()
        return folder

    def close(self) -> None:
        """Release the lock."""
        self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def update(self, **changes: Any) -> None:
        """Change fields of run.json; on disk when it returns."""
        record = self.record.model_copy(update=changes)
        if record != self.record:
            _write(self.path / "run.json", record)
            self.record = record

    def put_segment(self, number: int, segment: Segment) -> None:
        """Add segment `number` to the plan or extend its list; on disk when it returns."""
        segments = list(self.segments)
        if number < len(segments):
            if not segment.is_extension_of(segments[number]):
                raise RunFolderConflict(
                    _("segment {number} contradicts {path}").format(
                        number=number, path=self.path / "plan.json"
                    )
                )
            segments[number] = segment
        elif number == len(segments):
            segments.append(segment)
        else:
            raise ValueError(f"segment {number} would leave a gap")
        stored = _StoredPlan(segments=tuple(segments))
        _write(self.path / "plan.json", stored)
        self.segments = stored.segments

    def put_shard(self, sha256: str, body: bytes) -> None:
        """Store an encoded shard; on disk when it returns."""
        path = self.shard_path(sha256)
        if not path.exists():
            write_durably(path, body)

    def put_shard_again(self, sha256: str, body: bytes) -> None:
        """Replace a damaged encoded shard; on disk when it returns."""
        write_durably(self.shard_path(sha256), body)

    def shard(self, sha256: str) -> bytes | None:
        """Return an encoded shard, or None if it is missing."""
        path = self.shard_path(sha256)
        return path.read_bytes() if path.exists() else None

    def shard_bytes(self, ref: ShardRef) -> int:
        """Return the encoded size of a shard in bytes; an estimate if it is missing."""
        path = self.shard_path(ref.sha256)
        if path.exists():
            return path.stat().st_size
        return ref.samples * self.record.config.sample_schema.sample_bytes

    def put_code(self, body: bytes) -> None:
        """Keep the source of the run's task; on disk when it returns."""
        if self.code() != body:
            write_durably(self.path / CODE, body)

    def code(self) -> bytes | None:
        """Return the source of the run's task, or None if it is missing."""
        return read_code(self.path)

    @property
    def files(self) -> dict[str, str]:
        """The paths of data files by digest: the user's own, and those in this folder."""
        kept = {path.stem: str(path) for path in (self.path / "data").glob("*.safetensors")}
        return {**self.record.files, **kept}

    def put_data(self, samples: DataSet, sha256: str) -> None:
        """Keep arrays as a file in this folder; on disk when it returns."""
        path = self.data_path(sha256)
        if not path.exists():
            make_private_folder(path.parent)
            samples.write(path)

    def data_path(self, sha256: str) -> Path:
        """Return the path of samples that were given as arrays."""
        return self.path / "data" / f"{sha256}.safetensors"

    def note(self, what: str, **details: object) -> None:
        """Append an event to log.jsonl; on disk when it returns."""
        line = json.dumps({"time": time.time(), "what": what, **details}, separators=(",", ":"))
        append_durably(self.path / "log.jsonl", line.encode())

    def shard_path(self, sha256: str) -> Path:
        """Return the path of an encoded shard."""
        return self.shards / f"{sha256}.zst"


def read_code(path: Path) -> bytes | None:
    """Return the source in a run folder, without locking it, or None if it is missing."""
    code = path / CODE
    return code.read_bytes() if code.exists() else None


def run_folder_path(run: str, workdir: Path | None = None) -> Path:
    """Return the path of a run's folder: `workdir`/NAME, or NAME in the user's data folder."""
    return runs_folder(workdir) / run


def server_data_path(run: str, workdir: Path | None = None) -> Path:
    """Return the data folder of a run's local server."""
    return run_folder_path(run, workdir) / "server"


@dataclass(frozen=True, slots=True)
class DamagedFolder:
    """A run folder that cannot be read: its name, and why."""

    run: str
    path: Path
    error: OmegaError


def list_run_folders(workdir: Path | None = None) -> list[RunRecord]:
    """Return the readable runs on this machine, newest first, without locking them."""
    return look_at_run_folders(workdir)[0]


def look_at_run_folders(workdir: Path | None = None) -> tuple[list[RunRecord], list[DamagedFolder]]:
    """Return the runs on this machine, newest first, and the folders of damaged ones."""
    records, damaged = [], []
    folder = runs_folder(workdir)
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        try:
            if (path / "run.json").exists():
                record = read_stored(path)[0]
                # The folder's own name, also for a link or a copy.
                records.append(record.model_copy(update={"run": path.name}))
        except OSError as error:
            damaged.append(DamagedFolder(path.name, path, storage_failure(error, path)))
        except OmegaError as error:
            damaged.append(DamagedFolder(path.name, path, error))
    return sorted(records, key=lambda record: record.created_at, reverse=True), damaged


def remove_run_folder(path: Path) -> None:
    """Remove a run's folder, also a damaged one; of a link, only the link.

    Raises RunFolderConflict when it is not a run's folder, or a program works on it; OSError.
    """
    check_removable(path)
    if path.is_symlink():
        path.unlink()
    else:
        shutil.rmtree(path)
    sync_folder(path.parent)


def check_removable(path: Path) -> None:
    """Raise RunFolderConflict unless `path` is a run's folder that no program works on.

    It need not be readable: a damaged one can be removed.
    """
    if path.is_symlink() and not path.exists():
        return
    with ExitStack() as stack:
        _hold(path, stack)
        if not (path / "run.json").exists() and not _is_remains(path):
            raise RunFolderConflict(
                _("there is no run folder {path}").format(path=path), hint=_("see `omega21 runs`")
            )


def _is_remains(path: Path) -> bool:
    """Whether a folder has only files of a run: remains of an interrupted creation or removal."""
    return all(_ENTRY.fullmatch(entry.name) for entry in path.iterdir())


def read_run_folder(path: Path) -> tuple[RunRecord, int]:
    """Return a run's record and its number of segments, without locking the folder.

    Raises RunFolderConflict when it does not exist, or cannot be read.
    """
    record, segments = read_stored(path)
    return record, len(segments)


def read_stored(path: Path) -> tuple[RunRecord, tuple[Segment, ...]]:
    """Return a run's record and plan, without locking the folder; raises as `read_run_folder`."""
    if not (path / "run.json").exists():
        raise RunFolderConflict(
            _("there is no run folder {path}").format(path=path), hint=_("see `omega21 runs`")
        )
    record = _read(path / "run.json", RunRecord)
    return record, _read(path / "plan.json", _StoredPlan).segments


def fresh_run_name() -> str:
    """Return a name for a new run: the time, and four random hexadecimal digits."""
    return f"run-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"


def runs_folder(workdir: Path | None = None) -> Path:
    """Return the folder of the run folders: `workdir`, else one in the user's data folder."""
    return workdir or platformdirs.user_data_path("omega21", appauthor=False) / "runs"


def _hold(path: Path, stack: ExitStack) -> None:
    if not path.is_dir():
        raise RunFolderConflict(_("there is no run folder {path}").format(path=path))
    lock = hold_lock(path / ".lock")
    if lock is None:
        raise RunFolderConflict(
            _("another program works on the run in {path}").format(path=path),
            hint=_("wait for it or stop it, or train another run with --run"),
        )
    stack.callback(lock.release)


def _write(path: Path, document: Document) -> None:
    write_durably(path, document.model_dump_json(indent=1).encode())


def _read(path: Path, kind: type[_Stored]) -> _Stored:
    """Read a stored document; a newer format is refused by name."""
    try:
        text = path.read_bytes()
        content: Mapping[str, Any] = json.loads(text)
        written = int(content["format"])
        if written <= FOLDER_FORMAT:
            return kind.parse_lenient(text)
    except _UNREADABLE as error:
        raise RunFolderConflict(
            _("{path} cannot be read: {kind}").format(path=path, kind=type(error).__name__),
            hint=_("restore it from a copy, or train another run with --run"),
        ) from error
    raise RunFolderConflict(
        _("{path} has format {found}, this omega21 reads up to {known}").format(
            path=path, found=written, known=FOLDER_FORMAT
        ),
        hint=_("use the version of omega21 that wrote it, or a newer one"),
    )
