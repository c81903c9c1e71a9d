"""What a model is, in words: for the call `/info`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelDescription:
    """The name of a model, its layers, and the way from its input to its output, in Spanish."""

    name: str
    layers: tuple[str, ...]
    input: str
    process: str
    output: str
