"""The commands that reproduce a run, and what they leave out."""

import json
import shlex
from collections.abc import Sequence
from typing import Final

from pydantic import JsonValue

from omega21.client.store.run_folder import RunRecord
from omega21.data.schema import DEFAULT_TARGET
from omega21.data.sources.generators import KINDS
from omega21.language import _
from omega21.models.registry import default_config
from omega21.protocol.optimizers import OptimizerConfig
from omega21.protocol.plan import Segment
from omega21.protocol.schema import Schema
from omega21.protocol.tasks.task import CodeTask

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
    is_said = isinstance(config.task, CodeTask) or config.task == default_config().task
    if not is_said or config.optimizer.model_copy(update=said) != plain:
        reasons.append(_("its model or optimizer was set in Python (see run.json)"))
    if isinstance(config.task, CodeTask):
        reasons.append(
            _("they need the source of its model as it was, sha256:{digest}").format(
                digest=config.task.code_sha256
            )
        )
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
    if isinstance(record.config.task, CodeTask):
        words += _model_words(record.config.task, record.config.sample_schema)
    if segment.micro_batch is not None:
        words += ["--micro-batch", str(segment.micro_batch)]
    words += ["--validation", str(record.validation), *optimizer_words(record.config.optimizer)]
    return shlex.join(words + ([] if record.config.deterministic else ["--fast"]))


def _model_words(task: CodeTask, schema: Schema) -> list[str]:
    """Return the options of a model in the user's own source, and of its targets."""
    module, _colon, function = task.entry.partition(":")
    words = ["--model", f"{module.replace('.', '/')}.py:{function}"]
    for name, value in task.config.items():
        words += ["--set", f"{name}={_option_value(value)}"]
    if task.loss is not None:
        words += ["--loss", task.loss]
    for requirement in task.requirements:
        words += ["--requirement", requirement]
    words += ["--install"] if task.requirements else []
    if list(schema.targets) != [name for name in schema.tensors if name == DEFAULT_TARGET]:
        words += ["--targets", ",".join(schema.targets) or "none"]
    return words


def _option_value(value: JsonValue) -> str:
    """Return a value as `--set` reads it: a text that is no JSON as it is."""
    if isinstance(value, str):
        try:
            json.loads(value)
        except ValueError:
            return value
    return json.dumps(value, ensure_ascii=False)
