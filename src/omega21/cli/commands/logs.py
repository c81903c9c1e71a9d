"""`omega21 logs`: what a run's model printed."""

from omega21.cli.options import OutputOptions, RunArgument, ServerOptions
from omega21.language.figures import moment


def logs(run: RunArgument, *, server: ServerOptions, output: OutputOptions) -> None:
    """Show what the model of a run printed: the newest 1000 lines."""
    from omega21.cli.connection import connect

    out = output.open()
    with connect(server, out) as client:
        found = client.api.runs.log(run)
    shown = "\n".join(f"{moment(line.at)}  {line.text}" for line in found.lines)
    out.result(found.model_dump(mode="json"), shown)
