"""`omega21 metrics`: a run's recent losses and their trend."""

from typing import TYPE_CHECKING

from omega21.cli.options import (
    Address,
    Ca,
    Json,
    Quiet,
    Run,
    Timeout,
    Token,
    TokenFile,
    Verbose,
)

if TYPE_CHECKING:
    from omega21.protocol.classic import Metrics

_TRENDS = {"mejorando": "falling", "empeorando": "rising", "sin_cambios": "no clear trend"}


def metrics(
    address: Address = None,
    *,
    run: Run = "default",
    token: Token = None,
    token_file: TokenFile = None,
    ca: Ca = None,
    timeout: Timeout = 60,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Show a run's last losses and their trend.

    Anomalies are counted as the samples were trained: those with a probability over 0.5.
    """
    from omega21.cli.connection import connect
    from omega21.cli.output import Output, facts

    output = Output(json=json, quiet=quiet, verbose=verbose)
    with connect(
        address, token=token, token_file=token_file, ca=ca, timeout=timeout, output=output
    ) as client:
        found = client.metrics(run)
    output.result(found.model_dump(mode="json"), facts(metrics_rows(found)))


def metrics_rows(metrics: "Metrics") -> list[tuple[str, str]]:
    """Name the figures of a run's metrics."""
    losses = " ".join(f"{loss:.4f}" for loss in metrics.ultimos_20_losses)
    return [
        ("last losses", losses or "none yet"),
        ("trend", _TRENDS[metrics.tendencia]),
        (
            "anomalies found",
            f"{metrics.anomalias_detectadas} samples over 0.5 while they were trained",
        ),
        ("feedback validated", f"{metrics.feedback_tasa_exito:.0%}"),
    ]
