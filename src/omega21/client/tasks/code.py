"""The source of a run's task: allowed by the server, there before it is needed, kept here."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

from anyio.to_thread import run_sync

from omega21.client.api.api import Api
from omega21.client.events import Event, Notice
from omega21.client.request.request import TrainRequest
from omega21.data.code.bundle import CodeBundle
from omega21.language import _, ngettext
from omega21.language.figures import size
from omega21.protocol.errors import CodeNotAllowed, UnknownCode
from omega21.protocol.legacy import Info
from omega21.protocol.tasks.code import decode_code
from omega21.protocol.tasks.consent import Consent
from omega21.protocol.tasks.task import CodeTask, Task

Emit = Callable[[Event], Awaitable[None]]


def check_allowed(info: Info, task: Task) -> None:
    """Raise CodeNotAllowed unless the server executes a task, and installs what it asks for."""
    if not isinstance(task, CodeTask):
        return
    if not Consent.of(info.allowed_code, source="allowed_code").allows(task.code_sha256):
        raise CodeNotAllowed(
            _("the server does not execute source {sha256}").format(sha256=task.code_sha256[:12]),
            hint=_(
                "nothing was sent; its owner allows it with `omega21 serve --allow-code` (or "
                "--allow-code sha256:{sha256}), or with OMEGA21_ALLOW_CODE=1; the token is then a "
                "shell on that machine"
            ).format(sha256=task.code_sha256),
        )
    if task.requirements and not info.allows_install:
        raise CodeNotAllowed(
            _("the server installs no requirements: {names}").format(
                names=", ".join(task.requirements)
            ),
            hint=_(
                "nothing was sent; its owner allows it with `omega21 serve --allow-code "
                "--allow-install`; or install them there and leave out --install"
            ),
        )


async def with_offer(api: Api, request: TrainRequest) -> TrainRequest:
    """Return the request with the source that the server offers. Raises UnknownCode."""
    offers = (await api.code.describe()).offers
    if not offers:
        raise UnknownCode(
            _("the server offers no source"),
            hint=_("start it with `omega21 serve --model FILE.py:FUNCTION`, or give your own file"),
        )
    offer = offers[0]
    body = await api.code.get(offer.sha256)
    bundle = await run_sync(
        lambda: CodeBundle.of_body(body, entry=offer.entry, sha256=offer.sha256)
    )
    assert isinstance(request.task, CodeTask)
    task = request.task.model_copy(update={"entry": offer.entry, "code_sha256": offer.sha256})
    return replace(request, task=task, code=bundle, offered=False)


async def ensure_code(api: Api, task: Task, kept: bytes | None, *, emit: Emit) -> bytes | None:
    """Send the source of a task where the server lacks it; return its body, None for a built-in.

    Without `kept`, the server's own is returned. On the server's disk when it returns. Raises
    UnknownCode where neither has it, CodeNotAllowed.
    """
    if not isinstance(task, CodeTask):
        return None
    sha256 = task.code_sha256
    is_missing = bool(await api.code.missing([sha256]))
    if kept is None:
        if is_missing:
            raise UnknownCode(
                _("source {sha256} is neither on the server nor in the run's folder").format(
                    sha256=sha256[:12]
                ),
                hint=_("give it again, as it was, with `omega21 train --model FILE.py:FUNCTION`"),
            )
        kept = await api.code.get(sha256)
        await run_sync(decode_code, kept, sha256)
    elif is_missing:
        stored = await api.code.put(sha256, kept)
        text = ngettext(
            "source sent: one file, {size}", "source sent: {count} files, {size}", stored.files
        ).format(count=stored.files, size=size(stored.bytes))
        await emit(Notice(text))
    return kept
