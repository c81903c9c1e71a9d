"""The error of a notebook that cannot serve.

Modules that run before anything is installed import only the standard library, so they cannot raise
the errors of `omega21.protocol`, which need pydantic.
"""


class CannotServe(Exception):
    """The server cannot be started here; the message says why and what to do."""
