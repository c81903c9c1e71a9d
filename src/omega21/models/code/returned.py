"""What the user's functions return: checked, and named with the function's file and line."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from omega21.language import _
from omega21.models.code.losses import describe_outputs
from omega21.models.code.source import Source
from omega21.protocol.errors import TaskFailed
from omega21.protocol.metrics import LOSS, MAX_METRICS, METRIC_NAME_PATTERN
from omega21.protocol.printable import printable
from omega21.protocol.schema import TENSOR_NAME_PATTERN


class Returned:
    """Checks of what the functions of a source return. Each raises TaskFailed."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def by_metric_name(self, function: Callable[..., Any], values: object) -> Mapping[str, Any]:
        """Check that what a function returned is a mapping by names of metrics, not too many."""
        named = self.by_name(function, values, pattern=METRIC_NAME_PATTERN)
        if LOSS in named:
            raise self.wrong(
                function,
                _("the name {name!r} is taken by the loss itself").format(name=LOSS),
                hint=_("give the metric another name"),
            )
        if len(named) > MAX_METRICS:
            raise self.wrong(
                function,
                _("it returned {count} values, the limit is {most}").format(
                    count=len(named), most=MAX_METRICS
                ),
                hint=_("return fewer, or a vector of them"),
            )
        return named

    def by_name(
        self, function: Callable[..., Any], values: object, *, pattern: str = TENSOR_NAME_PATTERN
    ) -> Mapping[str, Any]:
        """Check that what a function returned is a mapping by names of the protocol."""
        if not isinstance(values, Mapping):
            raise self.wrong(
                function,
                _("it returned {found}").format(found=describe_outputs(values)),
                hint=_("return a dict of tensors by name"),
            )
        for name in values:
            if not isinstance(name, str) or not re.fullmatch(pattern, name):
                raise self.wrong(
                    function,
                    _("{name} is no name for a value").format(name=printable(repr(name), most=80)),
                    hint=_("use letters, digits and underscores"),
                )
        return values

    def scalar(self, function: Callable[..., Any], name: str, *, value: object) -> Tensor:
        """Return a metric as a scalar tensor."""
        if isinstance(value, Tensor) and not value.dim() and not value.is_complex():
            return value.detach()
        if isinstance(value, int | float | np.number):
            return torch.tensor(float(value))
        raise self.wrong(
            function,
            _("metric {name!r} is {found}, not a scalar").format(
                name=name, found=describe_outputs(value)
            ),
            hint=_("return the mean over the batch"),
        )

    def wrong(self, function: Callable[..., Any], reason: str, *, hint: str) -> TaskFailed:
        """Return the error about what a function returned."""
        name = getattr(function, "__name__", type(function).__name__)
        return TaskFailed(
            _("{where}: {name}: {reason}").format(
                where=self._source.where(function), name=name, reason=reason
            ),
            hint=hint,
        )
