"""omega21: train on a remote, disposable GPU from a local PC. The laptop owns the run.

    from omega21 import Client

The names below are loaded on first use: `import omega21` alone loads nothing else.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.metadata import version as _version

    from omega21.client.client import AsyncClient
    from omega21.client.sync import Client
    from omega21.protocol import errors

    __version__ = _version("omega21")

__all__ = ["AsyncClient", "Client", "__version__", "errors"]

_MODULES = {"AsyncClient": "omega21.client.client", "Client": "omega21.client.sync"}


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("omega21")
    if name == "errors":
        return import_module("omega21.protocol.errors")
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'omega21' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
