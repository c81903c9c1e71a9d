"""The schema of a run: the tensors of a sample, and which of them are inputs or targets."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from omega21.language import _
from omega21.protocol.messages import Document

if TYPE_CHECKING:
    import numpy as np

TensorType = Literal[
    "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool"
]
"""The types of a sample's tensors, by numpy's names."""

TENSOR_NAME_PATTERN: Final = r"^[A-Za-z_][A-Za-z0-9_]{0,62}$"
MAX_TENSORS: Final = 32
MAX_DIMENSIONS: Final = 7
MAX_SAMPLE_BYTES: Final = 64 * 2**20
"""A sample fits in a shard of its own."""

TensorName = Annotated[str, Field(pattern=TENSOR_NAME_PATTERN)]


class TensorSpec(Document):
    """The type and the shape of one tensor of a sample, without the dimension of the batch."""

    dtype: TensorType
    shape: Annotated[tuple[Annotated[int, Field(ge=1, le=2**31)], ...], Field(max_length=7)] = ()

    @property
    def numpy_type(self) -> "np.dtype[np.generic]":
        """The numpy type, little-endian."""
        import numpy as np  # noqa: PLC0415 - what only reads options does without

        return np.dtype(self.dtype).newbyteorder("<")

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor in one sample."""
        count = self.numpy_type.itemsize
        for dim in self.shape:
            count *= dim
        return count

    def __str__(self) -> str:
        """Return it as `float32 [28, 28]`, the way that messages name it."""
        return f"{self.dtype} {list(self.shape)}"


class Schema(Document):
    """The tensors of a sample: fixed type and shape, named; inputs and targets.

    The model is called with the inputs, by name; the loss also sees the targets. Names are those
    of the tensors in shards and files.
    """

    inputs: Annotated[dict[TensorName, TensorSpec], Field(min_length=1)]
    targets: dict[TensorName, TensorSpec] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if both := self.inputs.keys() & self.targets.keys():
            raise ValueError(_("tensor {name!r} is an input and a target").format(name=min(both)))
        if len(self.tensors) > MAX_TENSORS:
            raise ValueError(_("a sample has at most {most} tensors").format(most=MAX_TENSORS))
        if self.sample_bytes > MAX_SAMPLE_BYTES:
            raise ValueError(
                _("a sample has {size} bytes, the limit is {most}").format(
                    size=self.sample_bytes, most=MAX_SAMPLE_BYTES
                )
            )
        return self

    @property
    def tensors(self) -> Mapping[str, TensorSpec]:
        """All tensors by name: inputs, then targets."""
        return {**self.inputs, **self.targets}

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample."""
        return sum(spec.nbytes for spec in self.tensors.values())
