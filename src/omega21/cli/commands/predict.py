"""`omega21 predict`: computes what a run predicts for the samples of a file."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from omega21.cli.options import OutputOptions, RunArgument, ServerOptions, Workdir, output_option
from omega21.language import _, ngettext
from omega21.language.figures import count

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from omega21.cli.ui.output import Output
    from omega21.client.inference import Prediction

EXAMPLES: Final = """
# One probability per line
omega21 predict hourly samples.npz > probabilities.txt
# All outputs, of any shape
omega21 predict digits images.npz -o outputs.safetensors
"""

MOST_PRINTED: Final = 64
"""Most numbers in a line; an output with more goes to a file."""


def predict(
    run: RunArgument,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="Samples: a .npz or .safetensors file with the run's inputs, such as x.",
        ),
    ],
    *,
    outputs_file: Annotated[
        Path | None,
        output_option(text="Write all outputs [n, …], by name, to this .safetensors file."),
    ] = None,
    workdir: Workdir = None,
    server: ServerOptions,
    output: OutputOptions,
) -> None:
    """Print what a run predicts for each sample in a file.

    One line per sample, in the order of the file: the outputs that are one number each, or if there
    are none the first output, separated by tabs.
    Without --url, a server is started for a run that was trained on this machine.
    """
    from omega21.cli.connection import server_of_run
    from omega21.cli.ui.output_files import check_output
    from omega21.data.sources.files import read_inputs, read_tensors
    from omega21.models.registry import value_check

    out = output.open()
    if outputs_file is not None:
        check_output(outputs_file, suffixes=(".safetensors",))
    read_tensors(file, None)  # what is no data set is refused before a server is asked
    with server_of_run(run, server, workdir=workdir, output=out) as client:
        config = client.api.runs.state(run).config
        inputs = read_inputs(file, config.sample_schema.inputs, check=value_check(config.task))
        found = client.predict(run, inputs)
    text = ngettext(
        "{count} sample with the weights of step {step}",
        "{count} samples with the weights of step {step}",
        len(found),
    )
    out.info(text.format(count=count(len(found)), step=count(found.step)))
    if outputs_file is not None:
        _write(outputs_file, found)
        out.info(_("all outputs are in {file}").format(file=outputs_file))
    _show(run, found, out)


def _show(run: str, found: "Prediction", out: "Output") -> None:
    """Print the outputs that fit in a line; say where the others are."""
    printed = _printed(found.outputs)
    if not printed:
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in found.outputs.items())
        out.info(_("{shapes}: too large to print; --output FILE writes them").format(shapes=shapes))
    rows = [array.reshape(len(found), -1) for array in printed.values()]
    not_finite = sum(not all(map(math.isfinite, row)) for row in _joined(rows))
    if not_finite:
        text = ngettext(
            "{count} sample has no finite score: look for extreme values in it",
            "{count} samples have no finite score: look for extreme values in them",
            not_finite,
        )
        out.info(text.format(count=count(not_finite)))
    document = {
        "run": run,
        "step": found.step,
        "samples": len(found),
        "outputs": {name: _as_json(array.tolist()) for name, array in printed.items()},
    }
    out.result(document, "\n".join("\t".join(map(_as_text, row)) for row in _joined(rows)))


def _joined(rows: Sequence["NDArray[Any]"]) -> Iterator[list[Any]]:
    """Yield the numbers of each sample, those of all outputs in one list."""
    for parts in zip(*(array.tolist() for array in rows), strict=True):
        yield [number for part in parts for number in part]


def _as_text(number: float | bool) -> str:
    return f"{number:.6f}" if isinstance(number, float) else str(int(number))


def _as_json(value: Any) -> Any:
    """Return numbers as JSON has them: null for one that is not finite."""
    if isinstance(value, list):
        return [_as_json(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _printed(outputs: Mapping[str, "NDArray[Any]"]) -> dict[str, "NDArray[Any]"]:
    """Return the outputs that are one number for each sample, else the first if it is short."""
    numbers = {name: array for name, array in outputs.items() if array.ndim == 1}
    if numbers:
        return numbers
    name, first = next(iter(outputs.items()))
    return {name: first} if first[0].size <= MOST_PRINTED else {}


def _write(path: Path, found: "Prediction") -> None:
    from omega21.data.durable import write_durably
    from omega21.protocol.shards import pack

    write_durably(path, pack(found.outputs, {"step": str(found.step)}))
