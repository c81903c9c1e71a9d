"""What keeps a notebook from serving, in one line.

The modules of this package that run before anything is installed import the standard library
alone, so they cannot raise the errors of `omega21.protocol`, which need pydantic.
"""


class CannotServe(Exception):
    """The server cannot be started here; the message says why and what to do."""
