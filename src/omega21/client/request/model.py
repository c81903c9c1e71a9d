"""The user's own model in a train request: its source, its options, its requirements."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from pydantic import JsonValue, ValidationError

from omega21.client.request.request import TrainRequest, invalid_option
from omega21.data.code.bundle import prepare_code
from omega21.data.code.header import check_requirements
from omega21.protocol.tasks.task import CodeTask

OFFERED: Final = "server"
"""The model that the server was started with."""

_NOT_KNOWN: Final = "0" * 64


def with_model(
    request: TrainRequest,
    model: str,
    *,
    options: Mapping[str, JsonValue] | None = None,
    loss: str | None = None,
    include: Sequence[str] = (),
    limit: int | None = None,
    install: bool = False,
    requirements: Sequence[str] = (),
    folder: Path | None = None,
) -> TrainRequest:
    """Return the request of a model in the user's own source, `net.py:build`; nothing is imported.

    `server` is the model that the server was started with. `options` are passed to the function.
    With `install` the server installs the requirements of the file's PEP 723 header, and those
    given. Raises InvalidCode, InvalidRequest.
    """
    bundle = None
    if model != OFFERED:
        bundle = prepare_code(model, include=include, limit=limit, folder=folder)
    wanted = check_requirements([*(bundle.requirements if bundle else ()), *requirements])
    try:
        task = CodeTask(
            entry=bundle.entry if bundle else "server:build",
            code_sha256=bundle.sha256 if bundle else _NOT_KNOWN,
            config=dict(options or {}),
            loss=loss,
            requirements=wanted if install else (),
        )
    except ValidationError as error:
        raise invalid_option(error) from error
    return replace(request, task=task, code=bundle, offered=bundle is None)
