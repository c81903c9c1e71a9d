"""`omega21 metrics`: a run's recent losses and their trend."""

from typing import TYPE_CHECKING

from omega21.cli.options import OutputOptions, RunOrNewest, ServerArgument
from omega21.language import N_, _, ngettext
from omega21.language.figures import count, decimal, percent

if TYPE_CHECKING:
    from omega21.protocol.legacy import Metrics

_TRENDS = {
    "mejorando": N_("falling"),
    "empeorando": N_("rising"),
    "sin_cambios": N_("no clear trend"),
}


def metrics(
    *,
    run: RunOrNewest = None,
    server: ServerArgument,
    output: OutputOptions,
) -> None:
    """Show a run's last losses and their trend.

    Samples with a probability over 0.5 while they were trained are counted as anomalies.
    """
    from omega21.cli.connection import connect, run_to_show
    from omega21.cli.ui.output import facts

    out = output.open()
    with connect(server, out) as client:
        found = client.metrics(run_to_show(client, run))
    out.result(found.model_dump(mode="json"), facts(metrics_rows(found)))


def metrics_rows(metrics: "Metrics") -> list[tuple[str, str]]:
    """Name the figures of a run's metrics."""
    losses = " ".join(decimal(loss, 4) for loss in metrics.ultimos_20_losses)
    found = metrics.anomalias_detectadas
    anomalies = ngettext(
        "{count} sample over {threshold} while it was trained",
        "{count} samples over {threshold} while they were trained",
        found,
    )
    return [
        (_("last losses"), losses or _("none yet")),
        (_("trend"), _(_TRENDS[metrics.tendencia])),
        (
            _("anomalies found"),
            anomalies.format(count=count(found), threshold=decimal(0.5, 1)),
        ),
        (_("feedback validated"), percent(metrics.feedback_tasa_exito)),
    ]
