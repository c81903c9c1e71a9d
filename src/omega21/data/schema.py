"""The schema of given tensors, and whether tensors fit a schema."""

from collections.abc import Collection, Mapping, Sequence
from itertools import islice
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from omega21.language import _
from omega21.protocol.errors import InvalidSamples
from omega21.protocol.plan import SamplesType
from omega21.protocol.schema import Schema, TensorSpec

DEFAULT_TARGET: Final = "y"
"""The tensor that is a target where nothing is said, if there is one of this name."""

_MOST_NAMED: Final = 12

_STORED_AS: Final = {
    "float64": "float32",
    "longdouble": "float32",
    "uint16": "int32",
    "uint32": "int64",
    "uint64": "int64",
}
"""Types of arrays that samples do not have, or not unasked, and what they become."""


class Shaped(Protocol):
    """An array, or a tensor in a file: anything with rows of one type."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of its items."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its dimensions."""


def named_arrays(given: Any) -> dict[str, NDArray[Any]]:
    """Return a map of arrays, or a pair (x, y), as named arrays. Raises InvalidSamples."""
    if isinstance(given, Mapping):
        return {str(name): _array(str(name), value) for name, value in given.items()}
    is_single = isinstance(given, np.ndarray | str | bytes) or not hasattr(given, "__iter__")
    parts = [] if is_single else list(given)
    if len(parts) != 2:
        raise InvalidSamples(
            _("samples are a map of arrays or a pair (x, y), got {kind}").format(
                kind=type(given).__name__
            ),
            hint=_('pass {"x": x, "y": y} with one row for each sample'),
        )
    return {name: _array(name, part) for name, part in zip("xy", parts, strict=True)}


def _array(name: str, given: Any) -> NDArray[Any]:
    try:
        return np.asarray(given)
    except (TypeError, ValueError) as error:  # rows of different lengths
        raise InvalidSamples(
            _("{name} is not an array of numbers: {reason}").format(name=name, reason=error),
            hint=_("give every sample as many numbers"),
        ) from error


def find_schema(tensors: Mapping[str, Shaped], targets: Sequence[str] | None = None) -> Schema:
    """Return the schema of tensors [n, …] as they are; by default `y` is a target.

    float64 becomes float32 (`narrowed`), and a type that samples do not have becomes the next
    larger one. Raises InvalidSamples.
    """
    if targets is None:
        targets = [DEFAULT_TARGET] if DEFAULT_TARGET in tensors else []
    if missing := [name for name in targets if name not in tensors]:
        raise InvalidSamples(
            _("there is no tensor {name!r} that could be a target").format(name=missing[0]),
            hint=_("the tensors are {names}").format(names=_listed(tensors)),
        )
    if not tensors.keys() - set(targets):
        raise InvalidSamples(
            _("samples have no input"), hint=_("name the targets with --targets, or none of them")
        )
    specs = {name: _spec(name, tensor) for name, tensor in tensors.items()}
    try:
        return Schema(
            inputs={name: spec for name, spec in specs.items() if name not in targets},
            targets={name: specs[name] for name in targets},
        )
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part)[:64] for part in first["loc"] if part != "[key]")
        raise InvalidSamples(
            _("these tensors are no samples: {where} {reason}").format(
                where=where, reason=first["msg"]
            )
        ) from error


def _listed(names: Collection[str]) -> str:
    """Return names for a message: not all where they are many, nor whole where they are long."""
    first, more = islice(sorted(names), _MOST_NAMED), len(names) > _MOST_NAMED
    return ", ".join([*(name[:64] for name in first), *(["…"] if more else [])]) or "-"


def narrowed(tensors: Mapping[str, Shaped]) -> list[str]:
    """Return the names of float64 tensors, which become float32 where no schema is given."""
    return sorted(name for name, tensor in tensors.items() if tensor.dtype == np.float64)


def _spec(name: str, tensor: Shaped) -> TensorSpec:
    _check_numeric(name, tensor)
    if not tensor.shape:
        raise InvalidSamples(
            _("tensor {name} is a single number").format(name=name),
            hint=_("every tensor has one row for each sample"),
        )
    kind = _STORED_AS.get(tensor.dtype.name, tensor.dtype.name)
    try:
        return TensorSpec.model_validate({"dtype": kind, "shape": tensor.shape[1:]})
    except ValidationError as error:
        raise InvalidSamples(
            _("tensor {name} has type {dtype} and shape {shape}").format(
                name=name, dtype=tensor.dtype, shape=list(tensor.shape)
            ),
            hint=_("no dimension is 0, and there are at most 7 beside the samples"),
        ) from error


def _check_numeric(name: str, tensor: Shaped) -> None:
    if tensor.dtype.kind not in "fiub":
        raise InvalidSamples(
            _("tensor {name} has type {dtype}, not a numeric one").format(
                name=name, dtype=tensor.dtype
            )
        )


def check_form(tensors: Mapping[str, Shaped], specs: Mapping[str, TensorSpec]) -> int:
    """Check that tensors [n, …] can be converted to a schema's, and return n, at least 1.

    Raises InvalidSamples, naming the tensor, what was found and what was expected.
    """
    for name, spec in specs.items():
        tensor = tensors.get(name)
        if tensor is None:
            raise missing_tensor(name, tensors)
        _check_numeric(name, tensor)
        if not tensor.shape or tensor.shape[1:] != spec.shape:
            raise InvalidSamples(
                _("tensor {name} has shape {found}, expected {expected}").format(
                    name=name, found=list(tensor.shape), expected=_dims(spec)
                )
            )
    counts = {name: tensors[name].shape[0] for name in specs}
    if len(set(counts.values())) != 1:
        told = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise InvalidSamples(
            _("the tensors have different numbers of samples: {counts}").format(counts=told)
        )
    samples = next(iter(counts.values()))
    if samples == 0:
        raise InvalidSamples(_("the data set has no samples"))
    return samples


def missing_tensor(name: str, tensors: Mapping[str, object]) -> InvalidSamples:
    """Return the error that there is no tensor of this name."""
    return InvalidSamples(
        _("there is no tensor {name!r}").format(name=name),
        hint=_("the tensors are {names}").format(names=_listed(tensors)),
    )


def _dims(spec: TensorSpec) -> str:
    return "[" + ", ".join(["n", *map(str, spec.shape)]) + "]"


def is_rounded(name: str, schema: Schema) -> bool:
    """Whether a tensor is sent as float16 where that is asked for: a float32 input."""
    return name in schema.inputs and schema.inputs[name].dtype == "float32"


def stored_types(name: str, schema: Schema, samples_type: SamplesType) -> tuple[str, ...]:
    """Return the types that a tensor may have in a shard: the schema's, and float16 where asked."""
    spec = schema.tensors[name]
    if samples_type == "float16" and is_rounded(name, schema):
        return spec.dtype, "float16"
    return (spec.dtype,)


def check_stored(
    tensors: Mapping[str, Shaped], specs: Mapping[str, TensorSpec], schema: Schema, *,
    samples_type: SamplesType,
) -> None:  # fmt: skip
    """Check that a shard's tensors are those of a schema, in its types and shapes.

    Raises InvalidSamples, naming the tensor, what was found and what was expected.
    """
    check_form(tensors, specs)
    for name, spec in specs.items():
        allowed = stored_types(name, schema, samples_type)
        found = tensors[name].dtype.name
        if found not in allowed:
            raise InvalidSamples(
                _("tensor {name} has type {found}, expected {expected}").format(
                    name=name, found=found, expected=spec.dtype
                )
            )
