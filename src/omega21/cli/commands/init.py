"""`omega21 init`: writes the source of a model to start from."""

from pathlib import Path
from typing import Annotated, Final, Literal

import typer

from omega21.cli.options import OutputOptions
from omega21.language import N_, _

StarterName = Literal["classifier", "regressor", "autoencoder", "forecaster"]

EXAMPLES: Final = """
# A file of your own, with a model of numbers from numbers
omega21 init net.py --task regressor
"""

_DATA: Final = {
    "classifier": N_("x [n, …] and y [n], whole numbers from 0"),
    "regressor": N_("x [n, …] and y [n] or [n, …], numbers"),
    "autoencoder": N_("x [n, …], without y"),
    "forecaster": N_("x [n, T] or [n, T, …], the values before, and y [n, …], those after"),
}
"""The tensors of the data file, by task."""

_COMMENTS: Final = {
    "classifier": N_("A classifier: which class a sample is of."),
    "logits": N_("Samples x [n, …] to a logit for each class [n, classes]."),
    "regressor": N_("A regressor: the numbers that belong to a sample."),
    "values": N_("Samples x [n, …] to values of the shape of y."),
    "autoencoder": N_("An autoencoder: describes a sample by a few numbers, without a target."),
    "code": N_("Samples x [n, …] to their code [n, code], reconstruction and error [n]."),
    "forecaster": N_("A forecaster: the next values of a series from those before."),
    "after": N_("Values before x [n, T, …] to the values after, of the shape of y."),
    "inputs": N_("parameters by name: the inputs in the data"),
    "options": N_("options: --set hidden=256"),
    "predictions": N_("what predict returns, a row for each sample"),
    "metrics": N_("means over the batch"),
    "loss": N_("the mean over the batch"),
    "cross_entropy": N_(
        "Whole numbers are trained with cross_entropy; a function loss(outputs, batch) replaces it."
    ),
    "mse": N_("Numbers are trained with mse; a function loss(outputs, batch) replaces it."),
}
"""The docstrings and comments of the files."""


def init(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Python file to write; an existing one is kept.")
    ] = Path("net.py"),
    *,
    task: Annotated[
        StarterName, typer.Option("--task", "--tarea", help="What the model is for.")
    ] = "classifier",
    output: OutputOptions,
) -> None:
    """Write the source of a model to start from.

    The file has a small model and the functions around it, to be replaced by your own.
    """
    import shlex

    from omega21.cli.ui.output import key_values

    out = output.open()
    _check_name(file)
    write_starter(file, task)
    model = shlex.quote(f"{file}:build")
    train = f"omega21 train URL --model {model} --data FILE"
    out.result(
        {"file": str(file), "task": task, "train": train},
        key_values(
            [
                (_("written"), str(file)),
                (_("data"), _(_DATA[task])),
                (_("train it with"), train),
            ]
        ),
    )


def write_starter(file: Path, task: StarterName) -> None:
    """Write the source of a small model, with comments in the language chosen.

    Raises InvalidRequest where the file exists.
    """
    from importlib.resources import files
    from string import Template

    from omega21.cli.ui.output_files import check_output
    from omega21.data.durable import naming
    from omega21.protocol.errors import InvalidRequest

    check_output(file, suffixes=(".py",))
    starter = files("omega21.cli").joinpath("starters", f"{task}.txt").read_text(encoding="utf-8")
    comments = {name: _(text) for name, text in _COMMENTS.items()}
    try:
        with naming(file), file.open("x", encoding="utf-8", newline="\n") as opened:
            opened.write(Template(starter).substitute(comments))
    except FileExistsError as error:
        raise InvalidRequest(
            _("{file} exists").format(file=file), hint=_("name another file, or remove this one")
        ) from error


def _check_name(file: Path) -> None:
    """Raise InvalidRequest or InvalidCode for a file that cannot be imported by its name."""
    from omega21.protocol.errors import InvalidRequest
    from omega21.protocol.tasks.code import check_files

    if not file.stem.isidentifier() or not file.stem.isascii():
        raise InvalidRequest(
            _("{name} is no name of a Python module").format(name=repr(file.stem)),
            hint=_("use letters, digits and underscores, as in net.py"),
        )
    check_files({file.name: 0})
