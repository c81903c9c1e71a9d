"""`omega21 metrics`: a run's recent losses and their trend."""

from omega21.cli.options import OutputOptions, RunOrNewest, ServerArgument


def metrics(*, run: RunOrNewest = None, server: ServerArgument, output: OutputOptions) -> None:
    """Show a run's last losses and their trend.

    Samples with a probability over 0.5 while they were trained are counted as anomalies.
    """
    from omega21.cli.connection import connect, run_to_show
    from omega21.cli.ui.metrics import metrics_rows
    from omega21.cli.ui.output import key_values

    out = output.open()
    with connect(server, out) as client:
        found = client.metrics(run_to_show(client, run))
    out.result(found.model_dump(mode="json"), key_values(metrics_rows(found)))
