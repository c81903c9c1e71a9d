"""A run's recent losses and their trend, for people."""

from omega21.language import N_, _, ngettext
from omega21.language.figures import count, decimal, percent
from omega21.protocol.legacy import Metrics

_TRENDS = {
    "mejorando": N_("falling"),
    "empeorando": N_("rising"),
    "sin_cambios": N_("no clear trend"),
}


def metrics_rows(metrics: Metrics) -> list[tuple[str, str]]:
    """Return names and values of a run's metrics."""
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
