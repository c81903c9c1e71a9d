"""`omega21 diagnose`: a server tests itself."""

from omega21.cli.options import OutputOptions, ServerArgument


def diagnose(
    *,
    server: ServerArgument,
    output: OutputOptions,
) -> None:
    """Run a server's self-test on its device.

    A forward and a backward pass on real tensors; no run is changed.
    """
    from omega21.cli.connection import connect
    from omega21.cli.ui.diagnosis import diagnosis_rows
    from omega21.cli.ui.output import facts

    out = output.open()
    with connect(server, out) as client:
        found = client.diagnose()
    out.result(found.model_dump(mode="json"), facts(diagnosis_rows(found)))
