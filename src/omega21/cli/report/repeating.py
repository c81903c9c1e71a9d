"""The commands that reproduce a run, and what they leave out."""

import shlex
from collections.abc import Sequence
from typing import Final

from omega21.client.store.run_folder import RunRecord
from omega21.data.sources.generators import KINDS
from omega21.language import _
from omega21.models.registry import default_config
from omega21.protocol.optimizers import OptimizerConfig
from omega21.protocol.plan import Segment

OPTIMIZER_OPTIONS: Final = {
    "--optimizer": "name",
    "--lr": "learning_rate",
    "--momentum": "momentum",
    "--weight-decay": "weight_decay",
    "--warmup-steps": "warmup_steps",
}
"""The options of `train` for fields of an OptimizerConfig."""


def optimizer_words(config: OptimizerConfig) -> list[str]:
    """Return the options of an optimizer that is not the default one."""
    words: list[str] = []
    for option, name in OPTIMIZER_OPTIONS.items():
        value = getattr(config, name)
        if value != getattr(OptimizerConfig(), name):
            words += [option, str(value)]
    return words


def commands(record: RunRecord, segments: Sequence[Segment]) -> list[str]:
    """Return one command for each segment, under another name, so that this run stays unchanged."""
    return [_command(record, segment) for segment in segments]


def reservation(record: RunRecord, segments: Sequence[Segment]) -> str | None:
    """Return what the commands leave out; None if they are complete."""
    config = record.config
    reasons = []
    if any(segment.source.kind not in (*KINDS, "file") for segment in segments):
        reasons.append(_("samples of inline batches are on the server only"))
    plain = OptimizerConfig()
    said = {name: getattr(plain, name) for name in OPTIMIZER_OPTIONS.values()}
    if config.task != default_config().task or config.optimizer.model_copy(update=said) != plain:
        reasons.append(_("its model or optimizer was set in Python (see run.json)"))
    if config.precision != "auto":
        reasons.append(_("its precision, {name}, was set in Python").format(name=config.precision))
    return "; ".join(reasons) or None


def _command(record: RunRecord, segment: Segment) -> str:
    source = segment.source
    words = ["omega21", "train", "--run", f"{record.run}-again"]
    words += ["--samples", str(segment.samples), "--batch-size", str(segment.batch_size)]
    words += ["--epochs", str(segment.epochs), "--seed", str(record.config.seed)]
    if source.kind in KINDS:
        words += ["--kind", source.kind, "--anomaly-percent", f"{source.anomaly_percent:g}"]
    elif source.file_sha256 is not None:
        words += ["--data", record.files.get(source.file_sha256, "FILE")]
    if segment.micro_batch is not None:
        words += ["--micro-batch", str(segment.micro_batch)]
    words += ["--validation", str(record.validation), *optimizer_words(record.config.optimizer)]
    return shlex.join(words + ([] if record.config.deterministic else ["--fast"]))
