"""`omega21 diagnose`: a server tests itself."""

from typing import TYPE_CHECKING

from omega21.cli.options import OutputOptions, ServerArgument
from omega21.language import _
from omega21.language.figures import decimal

if TYPE_CHECKING:
    from omega21.protocol.legacy import Diagnosis


def diagnose(
    *,
    server: ServerArgument,
    output: OutputOptions,
) -> None:
    """Run a server's self-test on its device.

    A forward and a backward pass on real tensors; no run is changed.
    """
    from omega21.cli.connection import connect
    from omega21.cli.ui.output import facts

    out = output.open()
    with connect(server, out) as client:
        found = client.diagnose()
    out.result(found.model_dump(mode="json"), facts(diagnosis_rows(found)))


def diagnosis_rows(diagnosis: "Diagnosis") -> list[tuple[str, str]]:
    """Name what a self-test found."""
    shapes = diagnosis.outputs_shapes
    passed = _("passed in {seconds} s").format(seconds=decimal(diagnosis.seconds, 2))
    cuda = _("CUDA yes") if diagnosis.gpu_info.cuda else _("CUDA no")
    return [
        (_("self-test"), passed),
        (_("device"), f"{diagnosis.gpu_info.device}, {cuda}"),
        (_("input"), str(diagnosis.test_input_shape)),
        (_("anomaly"), str(shapes.anomaly)),
        (_("dendrites"), str(shapes.dendrites)),
        (_("coherence"), str(shapes.coherence)),
    ]
