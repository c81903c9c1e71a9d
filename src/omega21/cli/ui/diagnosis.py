"""The result of a server's self-test, for people."""

from omega21.language import _
from omega21.language.figures import decimal
from omega21.protocol.legacy import Diagnosis


def diagnosis_rows(diagnosis: Diagnosis) -> list[tuple[str, str]]:
    """Return names and values of a self-test."""
    shapes = diagnosis.outputs_shapes
    passed = _("passed in {seconds} s").format(seconds=decimal(diagnosis.seconds, 2))
    cuda = _("CUDA yes") if diagnosis.gpu_info.cuda else _("CUDA no")
    return [
        (_("self-test"), passed),
        (_("device"), f"{diagnosis.gpu_info.device}, {cuda}"),
        (_("input"), str(diagnosis.test_input_shape)),
        *((_(name), str(shape)) for name, shape in shapes.model_dump().items() if shape),
    ]
