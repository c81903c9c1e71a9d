import inspect
import json
from collections.abc import Iterator

import numpy as np
import pytest
from pydantic import BaseModel, ValidationError

from omega21.models.corteza.config import TINY, run_config
from omega21.protocol import (
    checkpoints,
    errors,
    logs,
    optimizers,
    plan,
    runs,
    schema,
    shards,
    steps,
    tasks,
)
from omega21.protocol import inference as compute
from omega21.protocol import legacy as classic
from omega21.protocol.legacy import FeedbackDendritas, TrainLayer2
from omega21.protocol.link import usage as traffic
from omega21.protocol.messages import Document, LegacyRequest, Reply, Request
from omega21.protocol.optimizers import OptimizerConfig
from omega21.protocol.plan import PutSegment, Segment, Source
from omega21.protocol.runs import Advance, Control, CreateRun, RunConfig, RunSummary
from omega21.protocol.steps import EvaluateReply, StepRecord, encode_scores, float32_as_json

MODULES = (
    checkpoints, classic, compute, errors, logs, optimizers, plan, runs, schema, shards,
    steps, tasks, traffic,
)  # fmt: skip
BASES = (Request, Reply, LegacyRequest, Document)
RUN_ID = "4f1c6e0a9b2d48d7a3e5f60718293a4b"


def messages() -> Iterator[type[BaseModel]]:
    for module in MODULES:
        for value in vars(module).values():
            if inspect.isclass(value) and issubclass(value, BaseModel) and value not in BASES:
                yield value


MESSAGES = sorted(set(messages()), key=lambda cls: cls.__qualname__)
SENT = [
    CreateRun(id=RUN_ID, config=run_config()),
    Advance(run_id=RUN_ID, to=3),
    Control(run_id=RUN_ID, revision=1, paused=True),
    PutSegment(run_id=RUN_ID, segment=Segment(samples=1, batch_size=1, source=Source(kind="file"))),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda cls: cls.__name__)
def test_every_message_has_one_of_the_bases_and_is_frozen(message: type[BaseModel]) -> None:
    assert issubclass(message, BASES)
    assert message.model_config.get("frozen") is True
    expected = "forbid" if issubclass(message, Request) else "ignore"
    assert message.model_config.get("extra") == expected


class TestRequests:
    @pytest.mark.parametrize("message", SENT, ids=lambda message: type(message).__name__)
    def test_an_unknown_field_is_an_error(self, message: Request) -> None:
        fields = message.model_dump()
        assert type(message).model_validate(fields) == message
        with pytest.raises(ValidationError, match="paussed"):
            type(message).model_validate({**fields, "paussed": True})

    def test_one_inside_another_too(self) -> None:
        with pytest.raises(ValidationError, match="rate"):
            CreateRun.model_validate({"id": RUN_ID, "config": {"optimizer": {"rate": 1}}})

    @pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
    def test_numbers_are_finite(self, number: str) -> None:
        with pytest.raises(ValidationError):
            OptimizerConfig.model_validate_json(f'{{"learning_rate": {number}}}')
        with pytest.raises(ValidationError):
            TrainLayer2.model_validate_json(
                f'{{"samples": [{{"input_data": [{number}], "anomaly_label": 0}}]}}'
            )

    @pytest.mark.parametrize("run_id", ["", "x" * 32, RUN_ID.upper(), RUN_ID[1:], RUN_ID + "\n"])
    def test_an_id_is_32_hexadecimal_digits(self, run_id: str) -> None:
        with pytest.raises(ValidationError):
            Advance(run_id=run_id, to=1)

    @pytest.mark.parametrize("to", [-1, 2**53 + 1, 1.5, "x", None])
    def test_a_target_is_a_number_that_json_holds(self, to: object) -> None:
        with pytest.raises(ValidationError):
            Advance.model_validate({"run_id": RUN_ID, "to": to})


class TestOlderCalls:
    def test_ignore_what_they_do_not_know(self) -> None:
        sample = {"input_data": [0.5], "anomaly_label": 1, "source": "sensor"}
        got = TrainLayer2.model_validate({"samples": [sample], "client": "x"})
        assert got.samples[0].input_data == [0.5]
        assert got.epochs == 1

    def test_check_what_they_know(self) -> None:
        for adjustments in ([0.0] * 15, [0.0] * 17, [1.5] + [0.0] * 15):
            with pytest.raises(ValidationError):
                FeedbackDendritas(ajustes_aplicados=adjustments, validacion=True)


class TestReplies:
    def test_fields_of_a_newer_server_are_ignored(self) -> None:
        row = {"step": 1, "samples": 2, "digest": "d", "ended_at": 0, "seconds": 0, "colour": 3}
        assert StepRecord.model_validate(row).samples == 2

    def test_a_missing_field_is_an_error(self) -> None:
        with pytest.raises(ValidationError):
            RunSummary.model_validate({"run": "x"})


class TestDocuments:
    def test_what_a_newer_version_wrote_is_read(self) -> None:
        config = run_config(seed=7)
        newer = json.loads(config.model_dump_json()) | {"colour": "red"}
        newer["optimizer"]["wings"] = 2
        newer["sample_schema"]["units"] = {}
        assert RunConfig.parse_lenient(json.dumps(newer)) == config

    def test_are_read_as_they_were_written(self) -> None:
        config = run_config(
            model=TINY, optimizer=OptimizerConfig(learning_rate=0.1), seed=2**63 - 1
        )
        assert RunConfig.parse_lenient(config.model_dump_json()) == config


def test_a_loss_is_written_as_the_shortest_number_that_reads_back() -> None:
    assert float32_as_json(float(np.float32(0.1))) == 0.1
    for value in np.random.default_rng(0).standard_normal(200).astype(np.float32):
        assert np.float32(float32_as_json(float(value))) == value
        assert len(repr(float32_as_json(float(value)))) <= 16


def test_scores_survive_the_wire() -> None:
    scores = np.random.default_rng(0).random(5, np.float32)
    reply = EvaluateReply(run="r", step=1, samples=5, loss=0.5, scores=encode_scores(scores))
    got = EvaluateReply.model_validate_json(reply.model_dump_json()).score_array()
    assert got.dtype == np.float32
    assert got.tobytes() == scores.tobytes()
