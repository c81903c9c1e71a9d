"""What `train` is asked for: the options over a preset over the defaults."""

from typing import Final

from pydantic import ValidationError

from omega21.cli.options import LongServerOptions
from omega21.cli.train_options import (
    DataOptions,
    FolderOptions,
    ModelOptions,
    OptimizerOptions,
    TrackingOptions,
    TrainingOptions,
)
from omega21.cli.values import evaluate_when, names, option_values, pull_policy, seconds, size
from omega21.client.loggers import load_logger
from omega21.client.request.data import open_given, with_schema
from omega21.client.request.model import with_model
from omega21.client.request.presets import PRESETS, Preset
from omega21.client.request.request import TrainRequest, invalid_option, next_segment
from omega21.client.store.run_folder import fresh_run_name
from omega21.client.training.options import TrainOptions
from omega21.language import _
from omega21.protocol.errors import InvalidRequest
from omega21.protocol.names import checked_name
from omega21.protocol.optimizers import OptimizerConfig

_PLAIN: Final = Preset(500, 64, "simple", 10)


def make_options(
    server: LongServerOptions, folder: FolderOptions, *, tracking: TrackingOptions
) -> TrainOptions:
    """Read what this client is to do beside the training. Raises InvalidRequest, ExtraMissing."""
    chosen = [*(["tensorboard"] if tracking.tensorboard else []), *(tracking.logger or [])]
    return TrainOptions(
        workdir=folder.workdir,
        patience=seconds(server.patience, "--patience"),
        pull=pull_policy(folder.pull_checkpoints),
        loggers=tuple(load_logger(name) for name in dict.fromkeys(chosen)),
    )


def make_request(
    data: DataOptions,
    training: TrainingOptions,
    *,
    optimizer: OptimizerOptions,
    model: ModelOptions | None = None,
) -> TrainRequest:
    """Apply the options over the preset over the defaults, and validate the request.

    Raises InvalidRequest for an unknown preset or contradictory options, and whatever reading the
    data file raises.
    """
    preset, file = training.preset, data.data
    if preset is not None and preset not in PRESETS:
        raise InvalidRequest(
            _("no preset {name}").format(name=repr(preset)),
            hint=_("choose one of {names}").format(names=", ".join(PRESETS)),
        )
    if file is not None and (preset or data.kind or data.anomaly_percent is not None):
        raise InvalidRequest(
            _("--data has its own samples"),
            hint=_("leave out --preset, --kind and --anomaly-percent"),
        )
    usual = _PLAIN if preset is None else PRESETS[preset]
    percent = usual.anomaly_percent if data.anomaly_percent is None else data.anomaly_percent
    request = TrainRequest(
        run=fresh_run_name() if training.run is None else checked_name(training.run),
        samples=data.samples or (None if file is not None else usual.samples),
        batch_size=training.batch_size or usual.batch_size,
        epochs=training.epochs,
        kind=data.kind or usual.kind,
        anomaly_percent=percent,
        seed=training.seed,
        data=file,
        targets=None if data.targets is None else names(data.targets),
        validation=data.validation,
        evaluate_every=evaluate_when(training.evaluate_every),
        deterministic=not training.fast,
        samples_type=data.samples_type,
        budget=None if data.budget is None else size(data.budget, "--budget"),
        micro_batch=training.micro_batch,
        optimizer=optimizer_config(optimizer),
    )
    if model is not None:
        request = _with_model(request, model)
    whole = with_schema(request, open_given(request))
    whole.config()
    if file is None:
        next_segment(whole, (), file=None)
    return request


def _with_model(request: TrainRequest, options: ModelOptions) -> TrainRequest:
    if options.model is None:
        given = (options.set_options, options.loss, options.include, options.requirement)
        if any(given) or options.install:
            raise InvalidRequest(
                _("--set, --loss, --include, --requirement and --install are for your own model"),
                hint=_("name it with --model, such as --model net.py:build"),
            )
        return request
    return with_model(
        request,
        options.model,
        options=option_values(options.set_options or ()),
        loss=options.loss,
        include=options.include or (),
        limit=size(options.code_limit, "--code-limit"),
        install=options.install,
        requirements=options.requirement or (),
    )


def optimizer_config(options: OptimizerOptions) -> OptimizerConfig:
    """Return the optimizer of the options. Raises InvalidRequest."""
    try:
        return OptimizerConfig(
            name=options.optimizer,
            learning_rate=options.lr,
            momentum=options.momentum,
            weight_decay=options.weight_decay,
            warmup_steps=options.warmup_steps,
        )
    except ValidationError as error:
        raise invalid_option(error) from error
