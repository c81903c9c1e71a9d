"""`omega21 diagnose`: runs a server's self-test."""

from omega21.cli.options import OutputOptions, ServerArgument


def diagnose(*, server: ServerArgument, output: OutputOptions) -> None:
    """Run a server's self-test on its device.

    A forward and a backward pass on real tensors; no run is changed.
    """
    from omega21.cli.connection import connect
    from omega21.cli.ui.diagnosis import diagnosis_rows
    from omega21.cli.ui.output import key_values

    out = output.open()
    with connect(server, out) as client:
        found = client.diagnose()
    out.result(found.model_dump(mode="json"), key_values(diagnosis_rows(found)))
