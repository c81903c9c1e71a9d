"""`omega21 generate`: writes synthetic samples to a file."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from omega21.cli.options import KindName, OutputOptions
from omega21.cli.values import MOST_WHOLE
from omega21.language import _
from omega21.language.figures import count, decimal, percent, size

if TYPE_CHECKING:
    from omega21.data.samples import Statistics

EXAMPLES: Final = """
# Two files without a common sample
omega21 generate first.npz --samples 1000
omega21 generate second.npz --samples 1000 --first 1000
"""


def generate(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="File to write: .npz or .safetensors.")
    ],
    *,
    samples: Annotated[
        int,
        typer.Option("--samples", "--muestras", min=1, metavar="N", help="Number of samples."),
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
            help="Percentage of anomalies.",
        ),
    ] = 10,
    seed: Annotated[
        int,
        typer.Option("--seed", "--semilla", min=0, metavar="N", help="Seed of the samples."),
    ] = 42,
    features: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1_000_000,
            metavar="N",
            help="Number of features.",
            show_default="those of the built-in model",
        ),
    ] = None,
    first: Annotated[
        int,
        typer.Option(
            "--first",
            "--primera",
            min=0,
            max=2**61,
            metavar="N",
            help="Index of the first sample, so that one file can continue another.",
        ),
    ] = 0,
    statistics: Annotated[
        bool,
        typer.Option("--statistics", "--estadisticas", help="Print statistics of the samples."),
    ] = False,
    output: OutputOptions,
) -> None:
    """Write synthetic samples to a file.

    `train --data FILE` reads it. The file holds the tensors x [n, features] and y [n]; sample i
    depends on kind, seed and i alone.
    """
    from omega21.cli.ui.output import key_values
    from omega21.cli.ui.output_files import check_output
    from omega21.data.samples import statistics as describe
    from omega21.data.sources.files import check_ending, write_data
    from omega21.data.sources.generators import generate as make
    from omega21.data.sources.generators import generated_width
    from omega21.models.registry import default_config

    out = output.open()
    check_ending(file)
    check_output(file)
    width = features or generated_width(default_config().sample_schema)
    _check_room(file, samples, features=width)
    wanted = range(first, first + samples)
    made = make(kind, seed, wanted, anomaly_percent=anomaly_percent, features=width)
    write_data(file, made.tensors)
    document = {"file": str(file), "kind": kind, "seed": seed, "first": first, "samples": samples}
    from_where = _("{samples} ({kind}, seed {seed}, from {first})").format(
        samples=count(samples), kind=kind, seed=seed, first=first
    )
    rows = [(_("written"), str(file)), (_("samples"), from_where)]
    if statistics:
        found = describe(made)
        document["statistics"] = found._asdict()
        rows += _statistics_rows(found)
    out.result(document, key_values(rows))


def _check_room(file: Path, samples: int, *, features: int) -> None:
    """Raise InvalidRequest where the disk or the memory is too small for the samples.

    Before any is made: a machine out of memory kills processes of its own choice.
    """
    import shutil

    from omega21.protocol.errors import InvalidRequest

    needed = samples * 4 * (features + 1)
    folder = next(each for each in file.absolute().parents if each.exists())
    room = min(shutil.disk_usage(folder).free, _memory())
    if needed > room:
        raise InvalidRequest(
            _("{samples} samples need {needed}, and {room} are free").format(
                samples=count(samples), needed=size(needed), room=size(room)
            ),
            hint=_("write several files: --first continues where the previous one ended"),
        )


def _memory() -> int:
    """Return the size of this machine's memory in bytes; the largest number if it is unknown."""
    if not hasattr(os, "sysconf"):
        return MOST_WHOLE
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _statistics_rows(found: "Statistics") -> list[tuple[str, str]]:
    share = percent(found.anomaly_percent / 100, 1)
    return [
        (_("normal"), count(found.normal)),
        (_("anomalies"), f"{count(found.anomalies)} ({share})"),
        (
            _("range"),
            _("{least} to {most}").format(
                least=decimal(found.minimum, 4), most=decimal(found.maximum, 4)
            ),
        ),
        (
            _("mean"),
            _("{mean}, standard deviation {deviation}").format(
                mean=decimal(found.mean, 4), deviation=decimal(found.standard_deviation, 4)
            ),
        ),
    ]
