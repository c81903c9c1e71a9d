"""`omega21 generate`: writes a data set of made samples to a file."""

from pathlib import Path
from typing import Annotated

import typer

from omega21.cli.options import Json, KindName, Quiet, Verbose


def generate(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Where to, ending in .npz or .safetensors.")
    ],
    *,
    samples: Annotated[
        int,
        typer.Option("--samples", "--muestras", min=1, metavar="N", help="Samples to make."),
    ] = 500,
    kind: Annotated[KindName, typer.Option("--kind", "--tipo", help="Kind of samples.")] = "simple",
    anomaly_percent: Annotated[
        float,
        typer.Option(
            "--anomaly-percent",
            "--anomalias",
            min=0,
            max=100,
            metavar="P",
            help="Share of anomalies.",
        ),
    ] = 10,
    seed: Annotated[
        int,
        typer.Option("--seed", "--semilla", min=0, metavar="N", help="Seed of the samples."),
    ] = 42,
    first: Annotated[
        int,
        typer.Option(
            "--first",
            "--primera",
            min=0,
            max=2**61,
            metavar="N",
            help="Number of the first sample, so that files can continue one another.",
        ),
    ] = 0,
    statistics: Annotated[
        bool,
        typer.Option("--statistics", "--estadisticas", help="Show what the data set holds."),
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Write made samples to a file.

    `train --data FILE` reads it. The file holds the tensors x [n, 1600] and y [n]; sample i
    depends on kind, seed and i alone.
    """
    from omega21.cli.output import Output, facts
    from omega21.data.files import write_data
    from omega21.data.generators import generate as make
    from omega21.data.samples import statistics as describe

    output = Output(json=json, quiet=quiet, verbose=verbose)
    made = make(kind, seed, range(first, first + samples), anomaly_percent=anomaly_percent)
    write_data(file, made)
    document = {"file": str(file), "kind": kind, "seed": seed, "first": first, "samples": samples}
    rows = [("written", str(file)), ("samples", f"{samples} ({kind}, seed {seed}, from {first})")]
    if statistics:
        found = describe(made)
        document["statistics"] = found._asdict()
        rows += [
            ("normal", str(found.normal)),
            ("anomalies", f"{found.anomalies} ({found.anomaly_percent:.4g} %)"),
            ("range", f"{found.minimum:.4f} to {found.maximum:.4f}"),
            ("mean", f"{found.mean:.4f}, standard deviation {found.standard_deviation:.4f}"),
        ]
    output.result(document, facts(rows))
