"""`omega21 predict`: computes a run's outputs for the samples of a file."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from omega21.cli.options import OutputOptions, RunArgument, ServerOptions, Workdir, output_option
from omega21.language import _, ngettext
from omega21.language.figures import count, decimal

if TYPE_CHECKING:
    from omega21.client.inference import Prediction

EXAMPLES: Final = """
# One probability per line
omega21 predict hourly samples.npz > probabilities.txt
"""


def predict(
    run: RunArgument,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="Samples: a .npz or .safetensors file with x [n, 1600]."
        ),
    ],
    *,
    outputs_file: Annotated[
        Path | None,
        output_option(
            text="Write all outputs to this .safetensors file: anomaly_prob [n], "
            "dendrites [n, 16], coherence [n, 64]."
        ),
    ] = None,
    workdir: Workdir = None,
    server: ServerOptions,
    output: OutputOptions,
) -> None:
    """Print the anomaly probability of each sample in a file.

    One per line, in the order of the file.
    Without --url, a server is started for a run that was trained on this machine.
    """
    import numpy as np

    from omega21.cli.connection import server_of_run
    from omega21.cli.ui.output_files import check_output
    from omega21.data.sources.files import read_features

    out = output.open()
    if outputs_file is not None:
        check_output(outputs_file, suffixes=(".safetensors",))
    x = read_features(file)
    with server_of_run(run, server, workdir=workdir, output=out) as client:
        found = client.predict(run, x)
    over = int((found.anomaly_prob > 0.5).sum())
    text = ngettext(
        "{count} sample with the weights of step {step}; {over} over {threshold}",
        "{count} samples with the weights of step {step}; {over} over {threshold}",
        len(x),
    )
    counts = {"count": count(len(x)), "step": count(found.step), "over": count(over)}
    out.info(text.format(**counts, threshold=decimal(0.5, 1)))
    if outputs_file is not None:
        _write(outputs_file, found)
        out.info(_("all outputs are in {file}").format(file=outputs_file))
    not_finite = int((~np.isfinite(found.anomaly_prob)).sum())
    if not_finite:
        text = ngettext(
            "{count} sample has no finite score: look for extreme values in it",
            "{count} samples have no finite score: look for extreme values in them",
            not_finite,
        )
        out.info(text.format(count=count(not_finite)))
    probabilities = [float(p) if np.isfinite(p) else None for p in found.anomaly_prob]
    out.result(
        {"run": run, "step": found.step, "samples": len(x), "anomaly_prob": probabilities},
        "\n".join(f"{value:.6f}" for value in found.anomaly_prob),
    )


def _write(path: Path, found: "Prediction") -> None:
    from safetensors.numpy import save

    from omega21.data.durable import write_durably

    tensors = {
        "anomaly_prob": found.anomaly_prob,
        "dendrites": found.dendrites,
        "coherence": found.coherence,
    }
    write_durably(path, save(tensors, metadata={"step": str(found.step)}))
