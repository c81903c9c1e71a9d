"""A run that has failed on its server is told with the class of its reason."""

import pytest

from omega21.client.training.results_poller import check_going
from omega21.protocol.errors import OmegaError, OutOfDeviceMemory, RunFailed, TaskFailed
from omega21.protocol.steps import StepsReply
from omega21.server.openapi.examples import STEPS_REPLY


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("task_failed", TaskFailed),
        ("out_of_device_memory", OutOfDeviceMemory),
        ("disk_full", RunFailed),
        ("a_code_of_another_version", RunFailed),
        (None, RunFailed),
    ],
)
def test_a_failure_is_of_the_class_that_its_code_says(
    code: str | None, error: type[OmegaError]
) -> None:
    stopped = {"state": "failed", "reason": "step 3: net.py:9: ValueError", "reason_code": code}
    with pytest.raises(error, match=r"step 3: net\.py:9: ValueError") as failed:
        check_going(StepsReply.model_validate({**STEPS_REPLY, **stopped}))
    assert type(failed.value) is error
