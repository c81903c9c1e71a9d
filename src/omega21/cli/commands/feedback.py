"""`omega21 feedback`: records feedback of the earlier system."""

from typing import Annotated

import typer

from omega21.cli.options import OutputOptions, Run, ServerArgument
from omega21.language import _
from omega21.language.figures import count


def feedback(
    *,
    adjustments: Annotated[
        str,
        typer.Option(
            "--adjustments",
            "--ajustes",
            metavar="NUMBERS",
            help="The 16 applied adjustments, each from -1 to 1, separated by commas.",
        ),
    ],
    validated: Annotated[
        bool,
        typer.Option(
            "--validated/--rejected",
            "--validado/--rechazado",
            help="Whether the adjustments proved right.",
        ),
    ],
    run: Run = "default",
    server: ServerArgument,
    output: OutputOptions,
) -> None:
    """Record feedback on a run.

    The adjustments that were applied, and whether they proved right, are stored with the run.
    """
    from omega21.cli.connection import connect
    from omega21.cli.ui.output import key_values
    from omega21.protocol.errors import InvalidRequest
    from omega21.protocol.legacy import ADJUSTMENTS

    try:
        numbers = [float(text) for text in adjustments.split(",")]
    except ValueError as error:
        raise InvalidRequest(
            _("--adjustments takes numbers with commas: {error}").format(error=error)
        ) from error
    if len(numbers) != ADJUSTMENTS or not all(-1 <= number <= 1 for number in numbers):
        raise InvalidRequest(
            _("--adjustments takes {count} numbers from -1 to 1, got {given!r}").format(
                count=ADJUSTMENTS, given=adjustments
            )
        )
    out = output.open()
    with connect(server, out) as client:
        received = client.feedback(numbers, validated=validated, run=run)
    statistics = received.estadisticas
    rows = [
        (_("recorded"), _("validated") if received.validacion else _("rejected")),
        (
            _("feedback"),
            _("{received} received, {validated} validated").format(
                received=count(statistics.recibido), validated=count(statistics.exitoso)
            ),
        ),
    ]
    out.result(received.model_dump(mode="json"), key_values(rows))
