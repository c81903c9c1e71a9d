"""The user's source as modules: imported from its folder under a name made of its digest.

One process serves one source, so that its folder can be on `sys.path`: `import helpers` finds the
file beside, as it does on the user's machine. Stale modules cannot be: another source is another
digest, and another process.
"""

import importlib
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from omega21.language import _
from omega21.models.code.failures import is_within, named_failures, where
from omega21.protocol.errors import TaskFailed
from omega21.protocol.schema import Schema
from omega21.protocol.tasks.task import CodeTask


@dataclass(frozen=True)
class Source:
    """The module of a task's entry, and the function that builds the model."""

    folder: str
    module: ModuleType
    build: Callable[..., Any]

    def function(self, name: str, *parameters: str) -> Callable[..., Any] | None:
        """Return the module's own function `name`, if it has one.

        Raises TaskFailed where it cannot be called with these positional `parameters`.
        """
        found: Callable[..., Any] | None = getattr(self.module, name, None)
        if not callable(found):
            return None
        try:
            inspect.signature(found).bind(*parameters)
        except TypeError as error:
            raise TaskFailed(
                _("{where}: {name} is called as {call}, which it does not take").format(
                    where=self.where(found), name=name, call=f"{name}({', '.join(parameters)})"
                )
            ) from error
        except ValueError:  # a function without a signature, such as one written in C
            pass
        return found

    def where(self, function: Callable[..., Any]) -> str:
        """Return the file and first line of a function of the source."""
        return where(function, self.folder)

    def owns(self, function: Callable[..., Any]) -> bool:
        """Whether a function is defined in the source's folder."""
        code = getattr(inspect.unwrap(function), "__code__", None)
        return code is not None and is_within(code.co_filename, self.folder)

    def call_build(self, schema: Schema, config: dict[str, Any]) -> object:
        """Call `build(schema, **config)`. Raises TaskFailed."""
        try:
            inspect.signature(self.build).bind(schema, **config)
        except TypeError as error:
            raise TaskFailed(
                _("{where}: {reason}: build{signature}").format(
                    where=self.where(self.build),
                    reason=error,
                    signature=inspect.signature(self.build),
                ),
                hint=_("pass the options that it takes with --set NAME=VALUE"),
            ) from error
        with named_failures(self.folder):
            return self.build(schema, **config)


def package_name(sha256: str) -> str:
    """Return the name under which the source with this digest is imported."""
    return f"omega21_code_{sha256[:16]}"


def load_source(folder: str, task: CodeTask) -> Source:
    """Import the module of the task's entry from `folder`. Raises TaskFailed, ImportFailed."""
    package = package_name(task.code_sha256)
    name, function = task.entry.split(":")
    if package not in sys.modules:
        made = ModuleType(package)
        made.__path__ = [folder]
        sys.modules[package] = made
        sys.path.insert(0, folder)
        sys.dont_write_bytecode = True  # the folder is named by its content
    folder = sys.modules[package].__path__[0]
    with named_failures(folder):
        module = importlib.import_module(f"{package}.{name}")
    build = getattr(module, function, None)
    if not callable(build):
        raise TaskFailed(
            _("{file} has no function {name!r}").format(
                file=f"{name.replace('.', '/')}.py", name=function
            ),
            hint=_("define it, as {example}, or name another one with --model").format(
                example=f"def {function}(schema): return Net()"
            ),
        )
    return Source(folder, module, build)
