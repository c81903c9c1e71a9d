"""`omega21 diagnose`: a server tests itself."""

from typing import TYPE_CHECKING

from omega21.cli.options import Address, Ca, Json, Quiet, Timeout, Token, TokenFile, Verbose
from omega21.language import _
from omega21.language.figures import decimal

if TYPE_CHECKING:
    from omega21.protocol.legacy import Diagnosis


def diagnose(
    address: Address = None,
    *,
    token: Token = None,
    token_file: TokenFile = None,
    ca: Ca = None,
    timeout: Timeout = 60,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Let a server test itself on its device.

    It computes forward and backward on real tensors; no run is touched.
    """
    from omega21.cli.connection import connect
    from omega21.cli.ui.output import Output, facts

    output = Output(json=json, quiet=quiet, verbose=verbose)
    with connect(
        address, token=token, token_file=token_file, ca=ca, timeout=timeout, output=output
    ) as client:
        found = client.diagnose()
    output.result(found.model_dump(mode="json"), facts(diagnosis_rows(found)))


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
