"""Writes docs/reference/client.md from the signatures and docstrings of the client.

    python docs/generate_client.py           # write the page
    python docs/generate_client.py --check   # exit 1 when it is not what the code says

Everything listed here is public. What is described is what the docstrings say, so that is where a
sentence of the page is changed.
"""

import ast
import dataclasses
import inspect
import json
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

from pydantic import BaseModel

from omega21 import AsyncClient, Client, colab
from omega21.client import events
from omega21.client.http.link import Link
from omega21.client.http.usage import Traffic
from omega21.client.inference import Prediction
from omega21.client.local_server import LocalServer
from omega21.client.request.presets import PRESETS
from omega21.client.request.request import TrainRequest
from omega21.client.store.run_folder import (
    fresh_run_name,
    list_run_folders,
    run_folder_path,
    server_data_path,
)
from omega21.client.store.summary import Summary
from omega21.client.training.options import TrainOptions
from omega21.client.weights import SavedWeights
from omega21.data.samples import Samples, statistics
from omega21.data.sources.files import open_data, write_data
from omega21.data.sources.generators import generate
from omega21.protocol.errors import OmegaError, error_classes
from omega21.protocol.evaluations import Evaluation

PAGE = Path(__file__).parent / "reference" / "client.md"

_INTRODUCTION = """\
# Client

<!-- Made by docs/generate_client.py from the signatures and docstrings: change those, not this. -->

The library behind the command line, as its docstrings describe it. [Use it as a
library](../library.md) shows it at work.

`omega21.AsyncClient` has the methods of `omega21.Client` as coroutines; `aclose` closes it. What
`train`, `resume` and `watch` return is an iterator of events: in `Client` a generator, in
`AsyncClient` an asynchronous context manager around an asynchronous iterator. `api` has the single
HTTP calls, by noun: `api.runs`, `api.plans`, `api.shards`, `api.steps`, `api.checkpoints`,
`api.inference`, `api.evaluations`, `api.server`, `api.legacy`. Neither loads torch.

Every method raises only the [errors](#errors) at the end of this page. The messages that calls
return (`RunState`, `StepRecord` and so on) are described with the [HTTP calls](http.md#messages).
"""

_WIDTH = 88

_FUNCTIONS = (generate, open_data, write_data, statistics)
_FOLDER_FUNCTIONS = (run_folder_path, server_data_path, list_run_folders, fresh_run_name)
_RESULTS = (Summary, Evaluation, Prediction, SavedWeights, Traffic, Link)


def page() -> str:
    """Compose the page."""
    return "\n".join([
        _INTRODUCTION,
        "## Client\n",
        *_class(Client, level=None, module="omega21"),
        "## What to train\n",
        *_class(TrainRequest),
        *_class(TrainOptions),
        "### Presets\n",
        *_presets(),
        "## What `train` yields\n",
        f"{inspect.getdoc(events)}\n",
        *_events(),
        "## What calls return\n",
        *(line for cls in _RESULTS for line in _class(cls)),
        "## Samples\n",
        *_class(Samples),
        *(line for function in _FUNCTIONS for line in _function(function, level=3)),
        "## Run folders\n",
        *(line for function in _FOLDER_FUNCTIONS for line in _function(function, level=3)),
        "## A server on this machine\n",
        *_class(LocalServer),
        "## omega21.colab\n",
        *_colab(colab),
        "## Errors\n",
        *_errors(),
    ])  # fmt: skip


def _class(cls: type, *, level: int | None = 3, module: str | None = None) -> Iterator[str]:
    """Describe a class: its constructor or fields, its docstring, its public methods."""
    if level is not None:
        yield f"{'#' * level} {cls.__name__}\n"
    where = module or cls.__module__
    if dataclasses.is_dataclass(cls) or issubclass(cls, (tuple, BaseModel)):
        yield _code(f"from {where} import {cls.__name__}", "", "", *_fields(cls))
    else:
        call = _signature(cls.__init__, name=cls.__name__, returns=False)
        yield _code(f"from {where} import {cls.__name__}", "", call)
    yield _doc(cls)
    for name, member in vars(cls).items():
        if not name.startswith("_") and cls is not Link:  # its methods are the client's
            yield from _member(name, member, level=(level or 2) + 1)


def _member(name: str, member: object, *, level: int) -> Iterator[str]:
    """Describe a public method or property."""
    if isinstance(member, property) and member.fget is not None:
        tree = _tree(member.fget)
        yield f"{'#' * level} {name}\n"
        yield _code(f"{name}: {ast.unparse(tree.returns) if tree.returns else 'object'}")
        yield _doc(member.fget)
    elif isinstance(member, classmethod):
        yield from _function(member.__func__, level=level)
    elif inspect.isfunction(member):
        yield from _function(member, level=level)


def _function(function: object, *, level: int) -> Iterator[str]:
    assert inspect.isfunction(function)
    yield f"{'#' * level} {function.__name__}\n"
    code = [_signature(function, name=function.__name__)]
    if "." not in function.__qualname__:
        code = [f"from {function.__module__} import {function.__name__}", "", *code]
    yield _code(*code)
    yield _doc(getattr(AsyncClient, function.__name__) if _is_of_client(function) else function)


def _is_of_client(function: object) -> bool:
    """Whether it is a method of Client that says "See `AsyncClient`"."""
    name = getattr(function, "__qualname__", "")
    return f"See `AsyncClient.{name.partition('.')[2]}`." == inspect.getdoc(function)


def _signature(function: object, *, name: str, returns: bool = True) -> str:
    """Write a call as the source declares it, with the values of its defaults."""
    assert inspect.isfunction(function)
    tree = _tree(function)
    annotations = {
        argument.arg: argument.annotation
        for argument in (*tree.args.args, *tree.args.kwonlyargs)
        if argument.annotation is not None
    }
    words: list[str] = []
    starred = False
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name in ("self", "cls"):
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            starred = True
            words.append("*")
        words.append(_parameter(parameter, annotations.get(parameter.name)))
    result = f" -> {ast.unparse(tree.returns)}" if returns and tree.returns else ""
    line = f"{name}({', '.join(words)}){result}"
    if len(line) <= _WIDTH:
        return line
    return "\n".join([f"{name}(", *(f"    {word}," for word in words), f"){result}"])


def _parameter(parameter: inspect.Parameter, annotation: ast.expr | None) -> str:
    kind = f": {ast.unparse(annotation)}" if annotation is not None else ""
    if parameter.kind is parameter.VAR_KEYWORD:
        return f"**{parameter.name}{kind}"
    if parameter.default is parameter.empty:
        return f"{parameter.name}{kind}"
    default = parameter.default
    if isinstance(default, str):
        shown = json.dumps(default)
    else:
        shown = "TrainOptions()" if default == TrainOptions() else repr(default)
    return f"{parameter.name}{kind} = {shown}"


def _fields(cls: type) -> Iterator[str]:
    """List a dataclass's or a named tuple's fields, as the source declares them."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    assert isinstance(tree, ast.ClassDef)
    yield f"class {cls.__name__}:"
    for node in tree.body:
        if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)):
            continue
        if not node.target.id.startswith("_"):
            default = _default(node.value) if node.value is not None else ""
            value = f" = {default}" if default else ""
            yield f"    {node.target.id}: {ast.unparse(node.annotation)}{value}"


def _default(value: ast.expr) -> str:
    """Show a default, or its factory; "" for none."""
    if isinstance(value, ast.Call):
        for keyword in value.keywords:
            if keyword.arg == "default_factory":
                return f"{ast.unparse(keyword.value)}()"
            if keyword.arg == "default":
                return ast.unparse(keyword.value)
        return ""
    return ast.unparse(value).replace("'", '"')


def _presets() -> Iterator[str]:
    yield "`omega21.client.request.presets.PRESETS`; the same on the command line and in"
    yield "`omega21.colab`.\n"
    yield "| preset | samples | batch size | kind | anomalies |\n|---|---|---|---|---|"
    for name, preset in PRESETS.items():
        row = (preset.samples, preset.batch_size, preset.kind, f"{preset.anomaly_percent:g} %")
        yield f"| `{name}` | {' | '.join(str(cell) for cell in row)} |"
    yield ""


def _events() -> Iterator[str]:
    for cls in vars(events).values():
        if inspect.isclass(cls) and cls.__module__ == events.__name__:
            yield from _class(cls)


def _colab(module: ModuleType) -> Iterator[str]:
    """Describe the Spanish module, in its own words."""
    yield (
        f"{inspect.getdoc(module)}\n".replace("    from", "```python\nfrom", 1)
        .replace("cliente.mostrar_resumen()\n", "cliente.mostrar_resumen()\n```\n", 1)
        .replace("\n    ", "\n")
    )
    for name, member in vars(module).items():
        if name.startswith("_") or getattr(member, "__module__", None) != module.__name__:
            continue
        if inspect.isclass(member):
            yield from _class(member)
        elif inspect.isfunction(member):
            yield from _function(member, level=3)


def _errors() -> Iterator[str]:
    """List the error classes: the tree, their codes, what they mean and what to do."""
    yield textwrap.dedent("""\
        `from omega21 import errors`. Each has `message` (what is wrong and where), `hint` (what to
        do), `retry_after` (seconds, or None), `code` and `exit_code`. An indented class is a case
        of the one above it. Where the last column is empty, the hint depends on what happened.
        """)
    yield "| class | code | what happened | what to do |\n|---|---|---|---|"
    for cls in error_classes():
        depth = cls.__mro__.index(OmegaError)
        meaning = " ".join((inspect.getdoc(cls) or "").partition("\n\n")[0].split())
        name = f"{'&emsp;' * depth}`{cls.__name__}`"
        yield f"| {name} | `{cls.code}` | {meaning} | {cls.default_hint} |"
    yield ""


def _tree(function: object) -> ast.FunctionDef | ast.AsyncFunctionDef:
    assert inspect.isfunction(function)
    tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    assert isinstance(tree, ast.FunctionDef | ast.AsyncFunctionDef)
    return tree


def _code(*lines: str) -> str:
    return "\n".join(["```python", *lines, "```", ""])


def _doc(thing: object) -> str:
    text = inspect.getdoc(thing) if getattr(thing, "__doc__", None) else None
    assert text, f"{thing} has no docstring"
    return f"{text}\n"


def main(arguments: Sequence[str]) -> int:
    """Write the page, or with `--check` compare it; return the exit status."""
    text = page()
    if "--check" not in arguments:
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(text, encoding="utf-8", newline="\n")
        return 0
    current = PAGE.is_file() and PAGE.read_text(encoding="utf-8") == text
    if not current:
        sys.stderr.write(f"{PAGE} is not what the code says: python docs/generate_client.py\n")
    return 0 if current else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
