"""The sizes of CortezaCognitivaV4, and what a run of it is; imports no torch."""

from typing import Annotated, Any, Final, Self

import numpy as np
from pydantic import Field, model_validator

from omega21.language import N_, _
from omega21.protocol.messages import Document
from omega21.protocol.runs import RunConfig
from omega21.protocol.schema import Schema, TensorSpec
from omega21.protocol.shards import Tensors
from omega21.protocol.tasks.task import BuiltInTask

KIND: Final = "corteza"
MODEL_NAME: Final = "CortezaCognitivaV4"
METRIC_LABELS: Final = {
    "anomaly_prob": N_("anomaly probability"),
    "anomaly": N_("anomaly"),
    "dendrites": N_("dendrites"),
    "coherence": N_("coherence"),
}
"""What people call the metric, the outputs and the vectors that they look at."""

Size = Annotated[int, Field(ge=1, le=65_536)]
Share = Annotated[float, Field(ge=0.0, lt=1.0)]


class ModelConfig(Document):
    """The sizes of a `CortezaCognitivaV4`; the defaults make the one of 12.0 million parameters."""

    features: Size = 1600
    """Features of a sample."""
    token_features: Size = 64
    """Features of one token: layer 2 sees a sample as `features / token_features` tokens."""
    lstm_width: Size = 32
    """Layer 2: state of the LSTM, in each of its two directions."""
    encoder_layers: Size = 1
    """Layer 2: blocks of the Transformer encoder."""
    encoder_width: Size = 64
    """Layer 2: width of a token inside the encoder."""
    encoder_heads: Size = 4
    """Layer 2: attention heads of the encoder."""
    encoder_hidden: Size = 256
    """Layer 2: hidden units of the encoder's feed-forward part."""
    mlp_hidden: Size = 2560
    """Layer 3: hidden units of the residual block over all features."""
    slots: Size = 2
    """Layers 3 and 4: vectors of `width` that layer 3 makes of a sample and layer 4 relates."""
    width: Size = 512
    """Layers 3 and 4: width of a slot."""
    slot_hidden: Size = 512
    """Layer 3: hidden units of the residual block over each slot."""
    attention_heads: Size = 8
    """Layer 4: attention heads."""
    head_hidden: Size = 256
    """Layer 5: hidden units of each head."""
    dendrites: Size = 16
    """Layer 5: values of the dendrites head, each in [-1, 1]."""
    coherence: Size = 64
    """Layer 5: values of the coherence head, each in [-1, 1]."""
    dropout: Share = 0.1
    """Dropout probability of layer 3's hidden units."""
    statistics_lr_multiplier: Annotated[float, Field(gt=0.0, le=1000.0)] = 30.0
    """Multiplier of the learning rate for the linear path from the tokens' statistics."""

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        for whole, part in (
            ("features", "token_features"),
            ("encoder_width", "encoder_heads"),
            ("width", "attention_heads"),
        ):
            if getattr(self, whole) % getattr(self, part):
                raise ValueError(
                    _("{whole} must be a multiple of {part}").format(whole=whole, part=part)
                )
        return self

    @property
    def tokens(self) -> int:
        """Length of the sequence that layer 2 sees."""
        return self.features // self.token_features


TINY: Final = ModelConfig(
    token_features=64,
    lstm_width=8,
    encoder_width=8,
    encoder_heads=2,
    encoder_hidden=16,
    mlp_hidden=4,
    slots=2,
    width=8,
    slot_hidden=8,
    attention_heads=2,
    head_hidden=8,
)
"""The same network at sizes for tests: about 57 thousand parameters, the same 1600 features."""


def sample_schema(config: ModelConfig) -> Schema:
    """Return the schema: `x` float32 [features], and the label `y` float32, 0 or 1."""
    return Schema(
        inputs={"x": TensorSpec(dtype="float32", shape=(config.features,))},
        targets={"y": TensorSpec(dtype="float32")},
    )


def task(model: ModelConfig) -> BuiltInTask:
    """Return the task of this network, at these sizes."""
    return BuiltInTask(kind=KIND, config=model.model_dump(mode="json"))


TINY_TASK: Final = task(TINY)


def run_config(model: ModelConfig | None = None, **fields: Any) -> RunConfig:
    """Return the configuration of a run of this network; `fields` are those of RunConfig."""
    model = model or ModelConfig()
    return RunConfig(task=task(model), sample_schema=sample_schema(model), **fields)


def find_invalid(tensors: Tensors) -> tuple[int, str] | None:
    """Find the first sample with a feature that is not finite, or a label that is not 0 or 1."""
    if (x := tensors.get("x")) is not None:
        finite = np.isfinite(np.asarray(x, np.float32)).reshape(len(x), -1).all(axis=1)
        if not finite.all():
            return int(np.argmin(finite)), _("a feature is NaN, infinite or beyond float32")
    if (y := tensors.get("y")) is not None:
        valid = (y == np.array(0, y.dtype)) | (y == np.array(1, y.dtype))
        if not valid.all():
            return int(np.argmin(valid)), _("the label is neither 0 nor 1")
    return None
