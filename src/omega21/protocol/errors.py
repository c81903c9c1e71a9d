"""Every error of omega21, as one tree of exceptions.

    OmegaError
    ├── RequestRefused                the request is wrong: sending it again will not help
    │   ├── InvalidRequest            a field or an option is missing, unknown or out of range
    │   ├── InvalidSamples            wrong width, NaN, infinity, a label other than 0 or 1, none
    │   ├── InvalidShard              a damaged shard, or one that does not match its digest
    │   ├── InvalidDataFile           a file that is not a data set
    │   ├── InvalidCheckpoint         a file that is not a checkpoint, or not of this run
    │   ├── InvalidAddress            not the address of a server
    │   ├── BodyTooLarge              a body larger than the limit of the call
    │   ├── UnsupportedEncoding       a content type or encoding the server does not read
    │   ├── InvalidCode               a source that is damaged, or has a file that it may not have
    │   ├── CodeNotAllowed            the server's owner does not allow this source
    │   ├── InstallFailed             requirements that pip cannot install on the server
    │   ├── TaskFailed                the run's own source raised, or returned what is no task
    │   │   └── ImportFailed          … an import in it that does not work on the server
    │   ├── NonFinite                 an inline batch whose loss or gradient is not finite
    │   ├── BudgetExceeded            a training whose traffic exceeds its budget
    │   ├── KeyReused                 an Idempotency-Key that was used with another body
    │   ├── HeadTooLarge              a request's address and headers exceed the limit
    │   ├── Unauthorized              no token, or a wrong one
    │   │   └── TooManyAttempts       … after many others; a valid one is still accepted
    │   ├── ForeignOrigin             a Host or Origin that this server does not serve
    │   ├── NotFound                  no such address on the server
    │   │   ├── UnknownRun
    │   │   ├── UnknownSegment
    │   │   ├── UnknownShard
    │   │   ├── UnknownCode
    │   │   └── UnknownCheckpoint
    │   ├── ExtraMissing              an optional package is not installed
    │   ├── MethodNotAllowed
    │   └── TooManyRuns
    ├── Conflict                      a valid request that the current state does not allow
    │   ├── OtherRun                  a run of that name with another id
    │   ├── OtherConfig               the run exists with another configuration
    │   ├── RunDeleted                the id of a run that was removed
    │   ├── PlanConflict              a segment that contradicts the stored plan
    │   ├── PlanUnfinished            an inline batch while planned steps are untrained
    │   ├── StillRunning              the same request is still being processed
    │   ├── RunPaused                 an inline batch for a paused run
    │   ├── Diverged                  ten steps in a row were not finite
    │   ├── NonFiniteSteps            a training ended, and some steps of it were not finite
    │   ├── RunFolderConflict         a run folder that does not fit the command
    │   └── NotReproduced             a run executed again computed other bits
    ├── ServerFailure                 a valid request that the server cannot carry out now
    │   ├── StorageFull
    │   ├── OutOfDeviceMemory         not even one sample fits
    │   ├── RunFailed                 a run stopped at a step that could not be computed
    │   ├── Unavailable               starting, stopping or restarting
    │   │   └── Overloaded            too many requests at once
    │   ├── NotOnThisServer           an optional package is not installed there
    │   ├── InternalError
    │   ├── TunnelNotSetUp            no token or no program for the tunnel
    │   ├── TunnelRefused             the provider refused it
    │   └── TunnelLost                the provider is not reachable, or its program ended
    ├── StorageFailure                a file cannot be read or written where the command runs
    │   ├── DiskFull
    │   ├── FileLocked                another program has it open
    │   ├── PermissionDenied
    │   ├── ReadOnlyStorage
    │   └── LocksUnsupported          a file system without locks
    └── LinkFailure                   the server is not reachable, or something else answered
        ├── Unreachable
        │   ├── TunnelOffline         nothing is connected to the tunnel's address
        │   └── OutOfPatience         … for as long as `--patience` says
        ├── TunnelLimit               the tunnel's monthly limit is used up
        ├── TimedOut
        │   └── SlowRequest           the server stopped waiting for the rest of a request
        ├── NotOmega21                another service, a login page, a tunnel's own page
        │   └── InvalidReply          … or a reply that is too large or malformed
        ├── OtherVersion              an omega21 server with another protocol version
        └── UnknownProblem            a code that this version does not know

A new error: add the class here with a code, an HTTP status and a free exit number; raise it with
one line that says what is wrong and where, and a hint that says what to do, both through `_()`; add
it to a test.
"""

from collections.abc import Iterator
from typing import ClassVar, Self

from pydantic import Field

from omega21.language import N_, _
from omega21.protocol.messages import Reply
from omega21.protocol.printable import printable_lines


class OmegaError(Exception):
    """Base of every error that omega21 raises on purpose.

    `message` says what is wrong and where, `hint` what to do, both in the language of the context
    in which the error is raised; `str(error)` has both, in the language of the context in which it
    is read. `retry_after` is in seconds.
    """

    code: ClassVar[str] = "omega21_error"
    http_status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1
    default_hint: ClassVar[str] = ""

    def __init__(
        self, message: str, *, hint: str | None = None, retry_after: float | None = None
    ) -> None:
        self.message = message
        self.hint = _(self.default_hint) if hint is None else hint
        self.retry_after = retry_after
        super().__init__(message)

    def __str__(self) -> str:
        """Return the message and the hint, in the language of the current context."""
        # Also shown outside the command line: in a notebook, or at the end of a traceback.
        return printable_lines(f"{self.message}; {self.hint}" if self.hint else str(self.message))


class RequestRefused(OmegaError):
    """The request itself is wrong; sending it again will not help."""

    code = "request_refused"
    http_status = 400
    exit_code = 3


class InvalidRequest(RequestRefused):
    """A field or an option is missing, unknown or out of range."""

    code = "invalid_request"
    http_status = 422
    exit_code = 2


class InvalidSamples(RequestRefused):
    """Samples of a wrong width, not finite, with a label other than 0 or 1, or an empty set."""

    code = "invalid_samples"
    http_status = 422
    exit_code = 10


class InvalidShard(RequestRefused):
    """A shard that is damaged, too large, or does not match its digest."""

    code = "invalid_shard"
    http_status = 422
    exit_code = 11


class InvalidDataFile(RequestRefused):
    """A file that is not a data set, or not the archive of a run."""

    code = "invalid_data_file"
    http_status = 422
    exit_code = 12


class InvalidCheckpoint(RequestRefused):
    """A file that is not a checkpoint, is damaged, or belongs to another run."""

    code = "invalid_checkpoint"
    http_status = 422
    exit_code = 26


class ExtraMissing(RequestRefused):
    """An optional package that this call needs is not installed with the client."""

    code = "extra_missing"
    exit_code = 80

    @classmethod
    def of(cls, extra: str, *, for_what: str) -> Self:
        """Name the feature, the missing extra and the command that installs it."""
        return cls(
            _("{what} needs a package that is not installed").format(what=for_what),
            hint=_("in your copy of the repository: {command}").format(
                command=f"pip install '.[{extra}]'"
            ),
        )


class InvalidAddress(RequestRefused):
    """An address that is not the address of a server."""

    code = "invalid_address"
    exit_code = 13
    default_hint = N_("give one such as https://abc.ngrok-free.app or http://127.0.0.1:8000")


class BodyTooLarge(RequestRefused):
    """A body larger than the limit of the call."""

    code = "body_too_large"
    http_status = 413
    exit_code = 14


class UnsupportedEncoding(RequestRefused):
    """A content type or content encoding that the server does not support."""

    code = "unsupported_encoding"
    http_status = 415
    exit_code = 15


class HeadTooLarge(RequestRefused):
    """The request's address and headers exceed the server's limits."""

    code = "head_too_large"
    http_status = 431
    exit_code = 62


class NonFinite(RequestRefused):
    """An inline batch that makes the loss or the gradient norm NaN or infinite."""

    code = "non_finite"
    http_status = 422
    exit_code = 16
    default_hint = N_("nothing was trained; look for extreme values in the batch")


class TaskFailed(RequestRefused):
    """The run's own source raised an exception, or gives something else than a task needs."""

    code = "task_failed"
    http_status = 422
    exit_code = 45
    default_hint = N_("correct it there; docs/your-own-model.md says what a task needs")


class ImportFailed(TaskFailed):
    """An import in the run's own source that does not work where the server runs."""

    code = "import_failed"
    exit_code = 46
    default_hint = N_(
        "install it where the server runs, or name it in the file's PEP 723 header and pass "
        "--install to a server that was started with --allow-install"
    )


class InvalidCode(RequestRefused):
    """The user's source: damaged, too large, or with a file or an import that cannot be sent."""

    code = "invalid_code"
    http_status = 422
    exit_code = 47


class CodeNotAllowed(RequestRefused):
    """Source, or its requirements, that the owner of the server has not allowed."""

    code = "code_not_allowed"
    http_status = 403
    exit_code = 48
    default_hint = N_(
        "its owner allows it with `omega21 serve --allow-code`, or with OMEGA21_ALLOW_CODE=1; the "
        "token is then a shell on that machine"
    )


class InstallFailed(RequestRefused):
    """Requirements of a source that pip cannot install where the server runs."""

    code = "install_failed"
    http_status = 422
    exit_code = 49
    default_hint = N_("correct the requirement, or install it where the server runs")


class BudgetExceeded(RequestRefused):
    """A training whose traffic would exceed `--budget`."""

    code = "budget_exceeded"
    http_status = 422
    exit_code = 84
    default_hint = N_("raise --budget, or ask for fewer --samples or less --validation")


class KeyReused(RequestRefused):
    """An Idempotency-Key that was used with another body before."""

    code = "idempotency_key_reused"
    http_status = 422
    exit_code = 17
    default_hint = N_("use a new key for each new request")


class Unauthorized(RequestRefused):
    """No token, or not the token of this server."""

    code = "unauthorized"
    http_status = 401
    exit_code = 18
    default_hint = N_(
        "pass the token that the server was started with: OMEGA21_TOKEN or --token-file"
    )


class TooManyAttempts(Unauthorized):
    """A wrong token after many other wrong ones; a valid token is still accepted."""

    code = "too_many_attempts"
    http_status = 429
    exit_code = 60
    default_hint = N_("a valid token is always accepted: look it up where the server was started")


class ForeignOrigin(RequestRefused):
    """A Host or Origin that this server does not serve."""

    code = "foreign_origin"
    http_status = 403
    exit_code = 19
    default_hint = N_("a server without a token answers on loopback only; start it with a token")


class NotFound(RequestRefused):
    """No such address on this server."""

    code = "not_found"
    http_status = 404
    exit_code = 20
    default_hint = N_("see /docs for the calls this server has")


class UnknownRun(NotFound):
    """No run of that name on this server."""

    code = "unknown_run"
    exit_code = 21
    default_hint = N_("list the runs with `omega21 runs`, or create it")


class UnknownSegment(NotFound):
    """A segment beyond the end of the plan."""

    code = "unknown_segment"
    exit_code = 22
    default_hint = N_("segments are numbered from 0 without gaps; ask for the plan")


class UnknownShard(NotFound):
    """A shard that is not on this server."""

    code = "unknown_shard"
    exit_code = 23
    default_hint = N_("upload it with PUT /shards/{sha256}")


class UnknownCode(NotFound):
    """A source that is not on this server."""

    code = "unknown_code"
    exit_code = 28
    default_hint = N_("upload it with PUT /code/{sha256}, or give the command with --model again")


class UnknownCheckpoint(NotFound):
    """A run that has no checkpoint, or none of that step."""

    code = "unknown_checkpoint"
    exit_code = 27
    default_hint = N_("one is written some seconds after a run has become idle")


class MethodNotAllowed(RequestRefused):
    """A method that this address does not support."""

    code = "method_not_allowed"
    http_status = 405
    exit_code = 24
    default_hint = N_("see /docs for the calls this server has")


class TooManyRuns(RequestRefused):
    """The server has its maximum number of runs."""

    code = "too_many_runs"
    http_status = 409
    exit_code = 25
    default_hint = N_("remove one with `omega21 runs remove NAME`")


class Conflict(OmegaError):
    """A valid request that the current state does not allow."""

    code = "conflict"
    http_status = 409
    exit_code = 30


class OtherRun(Conflict):
    """A run of that name exists with another id."""

    code = "other_run"
    exit_code = 31
    default_hint = N_("choose another name with --run, or remove that run from the server")


class OtherConfig(Conflict):
    """The run exists with another configuration."""

    code = "other_config"
    exit_code = 32
    default_hint = N_(
        "model, optimizer, precision and seed are fixed when a run is created; use a new run"
    )


class RunDeleted(Conflict):
    """The id of a run that was removed; it cannot be used again."""

    code = "run_deleted"
    http_status = 410
    exit_code = 33
    default_hint = N_("start a new run")


class PlanConflict(Conflict):
    """A segment that contradicts the plan the server holds."""

    code = "plan_conflict"
    exit_code = 34
    default_hint = N_("read the plan with GET /runs/{run}/plan; it can only be extended")


class PlanUnfinished(Conflict):
    """An inline batch while planned steps are untrained."""

    code = "plan_unfinished"
    exit_code = 35
    default_hint = N_("wait until the plan is trained, or use another run")


class StillRunning(Conflict):
    """The same request is still being processed."""

    code = "still_running"
    exit_code = 36
    default_hint = N_("ask again in a moment")


class RunPaused(Conflict):
    """An inline batch for a run that is paused."""

    code = "run_paused"
    exit_code = 37
    default_hint = N_("continue it with: omega21 runs unpause RUN")


class Diverged(Conflict):
    """Ten steps in a row were not finite, so the run has stopped."""

    code = "diverged"
    exit_code = 38
    default_hint = N_(
        "look for extreme values in these rows, scale the data, and train another run with --run"
    )


class NonFiniteSteps(Conflict):
    """A training finished with steps that were not finite and changed nothing."""

    code = "non_finite_steps"
    exit_code = 41
    default_hint = N_(
        "look for extreme values in these rows, scale the data, and train another run with --run"
    )


class RunFolderConflict(Conflict):
    """A run folder on this machine that does not fit the command."""

    code = "run_folder_conflict"
    exit_code = 39


class NotReproduced(Conflict):
    """A run that was executed again and computed other bits."""

    code = "not_reproduced"
    exit_code = 40


class ServerFailure(OmegaError):
    """A valid request that the server cannot carry out now."""

    code = "server_failure"
    http_status = 500
    exit_code = 50


class StorageFull(ServerFailure):
    """The server's disk, or the share of it that omega21 may use, is full."""

    code = "storage_full"
    http_status = 507
    exit_code = 51
    default_hint = N_("remove runs, wait until trained shards expire, or raise --disk-limit")


class OutOfDeviceMemory(ServerFailure):
    """Not even one sample fits in the device's memory."""

    code = "out_of_device_memory"
    http_status = 507
    exit_code = 52
    default_hint = N_("free the device's memory or use a smaller model")


class RunFailed(ServerFailure):
    """A run stopped at a step that its server could not compute."""

    code = "run_failed"
    exit_code = 56
    default_hint = N_("restart the server, then train again")


class Unavailable(ServerFailure):
    """The server is starting, stopping or restarting."""

    code = "unavailable"
    http_status = 503
    exit_code = 53
    default_hint = N_("try again in a moment")


class Overloaded(Unavailable):
    """Too many requests at once, or too many bytes in their bodies."""

    code = "overloaded"
    http_status = 429
    exit_code = 61


class NotOnThisServer(ServerFailure):
    """A package that this request needs is not installed on the server."""

    code = "not_installed"
    http_status = 501
    exit_code = 54


class InternalError(ServerFailure):
    """An internal error; the trace is in the server's log."""

    code = "internal_error"
    exit_code = 55
    default_hint = N_("nothing was changed; look in the server's log for the request's id")


class TunnelNotSetUp(ServerFailure):
    """A token, an SDK or a program that a tunnel needs is missing on this machine."""

    code = "tunnel_not_set_up"
    exit_code = 64


class TunnelRefused(ServerFailure):
    """The provider refuses the tunnel: a wrong token, an exhausted quota, too many at once."""

    code = "tunnel_refused"
    exit_code = 65


class TunnelLost(ServerFailure):
    """The tunnel's provider is not reachable from the server, or its program ended."""

    code = "tunnel_lost"
    exit_code = 66
    default_hint = N_("check this machine's own connection to the internet, then start again")


class StorageFailure(OmegaError):
    """A file or folder that cannot be read or written on this machine."""

    code = "storage_failure"
    http_status = 500
    exit_code = 90
    default_hint = N_("check that the folder exists and that its disk works")


class DiskFull(StorageFailure):
    """This machine's disk, or this user's quota, is full."""

    code = "disk_full"
    http_status = 507
    exit_code = 91
    default_hint = N_("free space on that disk, or choose a folder on another one")


class FileLocked(StorageFailure):
    """A file that another program has locked, for longer than the timeout."""

    code = "file_locked"
    http_status = 503
    exit_code = 92
    default_hint = N_("close the program that has it open, then give the command again")


class PermissionDenied(StorageFailure):
    """A file or folder that this user may not read or write."""

    code = "permission_denied"
    exit_code = 93
    default_hint = N_("check its owner (`ls -l`), or choose a folder of your own")


class ReadOnlyStorage(StorageFailure):
    """A read-only file or file system."""

    code = "read_only_storage"
    exit_code = 94
    default_hint = N_("choose a folder that can be written to")


class LocksUnsupported(StorageFailure):
    """A file system that does not support locks."""

    code = "locks_unsupported"
    exit_code = 95
    default_hint = N_("choose a folder on a disk of this machine")


class LinkFailure(OmegaError):
    """The server is not reachable, or something else answered in its place."""

    code = "link_failure"
    http_status = 502
    exit_code = 70


class Unreachable(LinkFailure):
    """Nothing answered at the address."""

    code = "unreachable"
    exit_code = 71
    default_hint = N_("check the address and that the server and its tunnel are running")


class TunnelOffline(Unreachable):
    """The tunnel's service answered: nothing is connected to this address."""

    code = "tunnel_offline"
    exit_code = 67
    default_hint = N_(
        "start the server and its tunnel again; if it prints another address, continue there "
        "with `omega21 resume --url URL`"
    )


class OutOfPatience(Unreachable):
    """The connection was lost for as long as `--patience` says."""

    code = "out_of_patience"
    exit_code = 76
    default_hint = N_("nothing is lost; continue with `omega21 resume`")


class TunnelLimit(LinkFailure):
    """The tunnel's monthly limit is used up; a retry does not help."""

    code = "tunnel_limit"
    exit_code = 68
    default_hint = N_(
        "nothing is lost: wait for the next month, or reach the server without this tunnel (`ssh "
        "-L`, your own proxy), then continue with `omega21 resume --url URL`"
    )


class TimedOut(LinkFailure):
    """No answer within the timeout."""

    code = "timed_out"
    http_status = 504
    exit_code = 72
    default_hint = N_("the link or the server is slow; try again or raise --timeout")


class SlowRequest(TimedOut):
    """The rest of a request did not arrive within the server's timeout."""

    code = "slow_request"
    http_status = 408
    exit_code = 63
    default_hint = N_("the link stalled or is very slow; send it again")


class NotOmega21(LinkFailure):
    """Something answered that is not an omega21 server."""

    code = "not_omega21"
    exit_code = 73
    default_hint = N_("check the address: another service, a router or the tunnel itself answered")


class InvalidReply(NotOmega21):
    """A reply that is too large, wrongly encoded, or malformed."""

    code = "invalid_reply"
    exit_code = 77
    default_hint = N_("check the address, and that the server is the one that you started")


class OtherVersion(LinkFailure):
    """An omega21 server with another version of the protocol."""

    code = "other_version"
    exit_code = 74
    default_hint = N_("install the same version of omega21 on both sides")


class UnknownProblem(LinkFailure):
    """An error whose code this version does not know."""

    code = "unknown_problem"
    exit_code = 75
    default_hint = N_("the server may be newer than this client; install the same version")


class Problem(Reply):
    """An error on the wire: a problem document of RFC 9457, `application/problem+json`."""

    type: str = Field(default="about:blank", examples=["about:blank"])
    title: str = Field(examples=["Invalid samples"])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["expected 8 features, got 7, sample 3; send 8 numbers for each"])
    code: str = Field(examples=["invalid_samples"])
    status_text: str = Field(default="error", examples=["error"])
    retry_after: float | None = Field(default=None, description="seconds")


PROBLEM_MEDIA_TYPE = "application/problem+json"


def error_classes(root: type[OmegaError] = OmegaError) -> Iterator[type[OmegaError]]:
    """Yield `root` and every class below it, in the order of definition."""
    yield root
    for child in root.__subclasses__():
        yield from error_classes(child)


def to_problem(error: OmegaError) -> Problem:
    """Describe `error` for the wire."""
    words = type(error).code.replace("_", " ")
    return Problem(
        title=words[:1].upper() + words[1:],
        status=error.http_status,
        detail=str(error),
        code=error.code,
        retry_after=error.retry_after,
    )


def from_problem(problem: Problem) -> OmegaError:
    """Create the exception that the server described, of the same class if it is known."""
    known = {cls.code: cls for cls in error_classes()}
    cls = known.get(problem.code)
    if cls is None:
        return UnknownProblem(
            f"{problem.detail} ({problem.code}, HTTP {problem.status})",
            retry_after=problem.retry_after,
        )
    return cls(problem.detail, hint="", retry_after=problem.retry_after)
