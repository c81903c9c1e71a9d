"""What is wrong with a source is named with its file and line, before it is trained."""

import logging
import platform
import re
import sys
import textwrap
from collections.abc import Mapping
from typing import Any

import pytest
import torch

from omega21.protocol.errors import ImportFailed, TaskFailed
from tests.models.code.sources import X_Y, Sources, make_batch, run_config, schema

HEAD = """\
import torch
from torch import nn

"""
GOOD = "def build(schema):\n    return nn.Linear(4, 1)\n"
"""Lines 4 and 5."""


def source(text: str, *, head: str = HEAD) -> dict[str, str]:
    return {"net.py": head + textwrap.dedent(text)}


def probe_failure(sources: Sources, files: Mapping[str, str], **fields: Any) -> TaskFailed:
    samples = fields.pop("samples", X_Y)
    task = sources.add(files, **fields)
    with pytest.raises(TaskFailed) as failed:
        sources.device().probe(run_config(task, samples), make_batch(samples, 2))
    return failed.value


AT_LOADING = {
    "no build": ("build = 3", r"net.py has no function 'build'"),
    "syntax error": ("def build(schema)\n    pass", r"net.py:4: SyntaxError: expected ':'"),
    "raises on import": ("1 / 0", r"net.py:4: ZeroDivisionError: division by zero"),
    "exits on import": ("import sys\nsys.exit(3)", r"net.py:5: SystemExit: 3"),
    "raises in build": (
        "def build(schema):\n    return nn.Linear(schema.inputs['z'].shape[0], 1)",
        r"net.py:5: KeyError: 'z'",
    ),
    "lazy": (
        "def build(schema):\n    return nn.LazyLinear(1)",
        r"net.py:4: 'weight' in the model's state has no shape yet",
    ),
    "no module": ("def build(schema):\n    return 7", r"net.py:4: build returned a int"),
    "no parameter": (
        "def build(schema):\n    return nn.Flatten()",
        r"net.py:4: the model has no parameter to train",
    ),
    "another device": (
        "def build(schema):\n    return nn.Linear(4, 1, device='meta')",
        r"net.py:4: 'weight' in the model's state is on meta: build on the CPU",
    ),
    "a type that cannot be stored": (
        "def build(schema):\n    return nn.Linear(4, 1, dtype=torch.bfloat16)",
        r"net.py:4: 'weight' in the model's state is torch.bfloat16",
    ),
    "state that is no tensor": (
        """
        class Net(nn.Linear):
            def get_extra_state(self):
                return {"calls": 3}
        def build(schema):
            return Net(4, 1)
        """,
        r"net.py:8: '_extra_state' in the model's state is a dict",
    ),
    "unknown parameter": (
        """
        class Net(nn.Linear):
            def forward(self, image):
                return super().forward(image)
        def build(schema):
            return Net(4, 1)
        """,
        r"net.py:6: forward has the parameter 'image'; the samples' inputs are x",
    ),
    "unused input": (
        """
        class Net(nn.Linear):
            def forward(self, other=None):
                return super().forward(other)
        def build(schema):
            return Net(4, 1)
        """,
        r"net.py:6: forward does not take the input 'x'",
    ),
    "functions of another form": (
        GOOD + "def loss(outputs):\n    return outputs.mean()",
        r"net.py:6: loss is called as loss\(outputs, batch\), which it does not take",
    ),
    "an optimizer that is none": (
        GOOD + "def optimizer(parameters):\n    return 0.1",
        r"net.py:6: optimizer: it returned float",
    ),
    "an optimizer with a closure": (
        GOOD + "def optimizer(parameters):\n    return torch.optim.LBFGS(parameters)",
        r"net.py:6: optimizer: it returned LBFGS",
    ),
    "an optimizer of others": (
        GOOD
        + "def optimizer(parameters):\n    return torch.optim.SGD(nn.Linear(1, 1).parameters())",
        r"net.py:6: optimizer: it trains other tensors",
    ),
}

AT_THE_FIRST_STEP = {
    "raises in forward": (
        "def build(schema):\n    return nn.Sequential(nn.Linear(5, 1))",
        r"RuntimeError: mat1 and mat2 shapes cannot be multiplied",
    ),
    "raises in an own forward": (
        """
        class Net(nn.Linear):
            def forward(self, x):
                return super().forward(x.reshape(7))
        def build(schema):
            return Net(4, 1)
        """,
        r"net.py:7: RuntimeError: shape '\[7\]' is invalid for input of size 8",
    ),
    "raises in backward": (
        """
        class Net(nn.Linear):
            def forward(self, x):
                y = super().forward(x).exp()
                y += y.sum()
                return y * y.add_(1).sigmoid_()
        def build(schema):
            return Net(4, 1)
        """,
        r"RuntimeError: one of the variables needed for gradient computation has been modified",
    ),
    "a loss that is no scalar": (
        GOOD + "def loss(outputs, batch):\n    return outputs - 1",
        r"net.py:6: loss: it is float32 \[2, 1\], not a floating-point scalar",
    ),
    "a loss that is a number": (
        GOOD + "def loss(outputs, batch):\n    return outputs.mean().item()",
        r"net.py:6: loss: it is a float, not a tensor",
    ),
    "a loss without gradient": (
        GOOD + "def loss(outputs, batch):\n    return outputs.detach().mean()",
        r"net.py:6: loss: no trained parameter takes part in it",
    ),
    "a loss that is not finite": (
        GOOD + "def loss(outputs, batch):\n    return (outputs - outputs).sum() / 0",
        r"net.py:6: the loss of the first samples is nan",
    ),
    "a gradient that is not finite": (
        GOOD + "def loss(outputs, batch):\n    return (outputs * 0).sum().abs().sqrt()",
        r"net.py:6: the gradient of the first samples is not finite",
    ),
    "a metric that is no scalar": (
        GOOD + "def metrics(outputs, batch):\n    return {'m': outputs[:, 0]}",
        r"net.py:6: metrics: metric 'm' is float32 \[2\], not a scalar",
    ),
    "a metric that is text": (
        GOOD + "def metrics(outputs, batch):\n    return {'m': 'good'}",
        r"net.py:6: metrics: metric 'm' is str, not a scalar",
    ),
    "a metric that is NaN": (
        GOOD + "def metrics(outputs, batch):\n    return {'m': float('nan')}",
        r"net.py:6: metric 'm' is no mean over the batch: it is nan",
    ),
    "a metric that is a sum": (
        GOOD + "def metrics(outputs, batch):\n    return {'m': outputs.abs().sum()}",
        r"net.py:6: metric 'm' is no mean over the batch: it is .* for the first samples together",
    ),
    "a metric with the name of the loss": (
        GOOD + "def metrics(outputs, batch):\n    return {'loss': outputs.mean()}",
        r"net.py:6: metrics: the name 'loss' is taken",
    ),
    "a vector with the name of the loss": (
        GOOD + "def vectors(outputs, batch):\n    return {'loss': outputs[0]}",
        r"net.py:6: vectors: the name 'loss' is taken",
    ),
    "more metrics than are stored": (
        GOOD + "def metrics(outputs, batch):\n"
        "    return {f'm{i}': outputs.mean() for i in range(33)}",
        r"net.py:6: metrics: it returned 33 values, the limit is 32",
    ),
    "a vector of more values than are stored": (
        GOOD + "def vectors(outputs, batch):\n    return {'v': outputs.mean().expand(5000)}",
        r"net.py:6: vectors: it returned 5000 values, the limit is 4096",
    ),
    "a metric and a vector of one name": (
        GOOD + "def metrics(outputs, batch):\n    return {'m': outputs.mean()}\n"
        "def vectors(outputs, batch):\n    return {'m': outputs.mean(0)}",
        r"'m' is a metric and a vector of the task",
    ),
    "metrics that are no dict": (
        GOOD + "def metrics(outputs, batch):\n    return outputs.mean()",
        r"net.py:6: metrics: it returned float32 \[\]",
    ),
    "a name with an escape": (
        GOOD + "def metrics(outputs, batch):\n    return {'a\\x1b[2J': outputs.mean()}",
        r"net.py:6: metrics: 'a\\x1b\[2J' is no name for a value",
    ),
    "a vector that is none": (
        GOOD + "def vectors(outputs, batch):\n    return {'v': outputs}",
        r"net.py:6: vectors: 'v' is float32 \[2, 1\], not a tensor \[k\]",
    ),
    "predictions of the whole batch": (
        GOOD + "def predictions(outputs):\n    return {'p': outputs.mean(0)}",
        r"net.py:6: predictions: 'p' is float32 \[1\], and there are 2 samples",
    ),
    "predictions of a type that cannot be sent": (
        GOOD + "def predictions(outputs):\n    return {'p': torch.complex(outputs, outputs)}",
        r"net.py:6: predictions: 'p' is complex64 \[2, 1\]",
    ),
    "more memory than there is": (
        """
        class Net(nn.Linear):
            def forward(self, x):
                return super().forward(x) + torch.empty(2**46).sum()
        def build(schema):
            return Net(4, 1)
        """,
        r"net.py:7: RuntimeError: .*(can't|could not|not enough).*(memory|allocate)",
    ),
    "outputs without the samples": (
        """
        class Net(nn.Linear):
            def forward(self, x):
                return super().forward(x).mean(0)
        def build(schema):
            return Net(4, 1)
        def loss(outputs, batch):
            return outputs.mean()
        """,
        r"net.py:6: forward: 'output' is float32 \[1\], and there are 2 samples",
    ),
    "scores of another form": (
        GOOD + "def scores(outputs):\n    return outputs",
        r"net.py:6: scores: it is float32 \[2, 1\], and there are 2 samples",
    ),
    "an augmentation that loses a tensor": (
        GOOD + "def augment(batch):\n    return {'x': batch['x']}",
        r"net.py:6: augment: 'y' was float32 \[2\] and is NoneType",
    ),
    "outputs and target of other shapes": (
        "def build(schema):\n    return nn.Linear(4, 3)",
        r"loss mse: outputs float32 \[2, 3\], y float32 \[2\]: their shapes differ",
    ),
    "a module for all": (
        "net = nn.Linear(4, 1)\ndef build(schema):\n    return net",
        r"net.py:5: two calls of build returned the same parameters",
    ),
    "weights that differ": (
        """
        import os
        def build(schema):
            net = nn.Linear(4, 1)
            nn.init.constant_(net.weight, float(int.from_bytes(os.urandom(3), "big")))
            return net
        """,
        r"net.py:6: two calls of build gave other values to weight",
    ),
    "state outside of the state": (
        """
        class Net(nn.Linear):
            calls = 0
            def forward(self, x):
                self.calls += self.training
                return super().forward(x) * self.calls
        def build(schema):
            return Net(4, 1)
        """,
        r"after a restore step 2 gives another optimizer.exp_avg.bias",
    ),
    "evaluation that changes buffers": (
        """
        class Net(nn.Linear):
            def __init__(self):
                super().__init__(4, 1)
                self.register_buffer("calls", torch.zeros(()))
            def forward(self, x):
                self.calls += 1
                return super().forward(x)
        def build(schema):
            return Net()
        """,
        r"net.py:12: evaluation changes weights.calls",
    ),
    "an optimizer with lists": (
        GOOD
        + """
class Listing(torch.optim.SGD):
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p].setdefault("history", []).append(1)
def optimizer(parameters):
    return Listing(parameters)
""",
        r"the optimizer keeps history as a list",
    ),
}


@pytest.mark.parametrize("name", AT_LOADING)
def test_a_source_that_cannot_be_loaded(name: str, sources: Sources) -> None:
    text, message = AT_LOADING[name]
    task = sources.add(source(text))
    with pytest.raises(TaskFailed, match=message) as failed:
        sources.device().make_executor(run_config(task, X_Y))
    assert failed.value.hint
    assert "\n" not in str(failed.value)


@pytest.mark.parametrize("name", AT_THE_FIRST_STEP)
def test_a_source_that_cannot_be_trained(name: str, sources: Sources) -> None:
    text, message = AT_THE_FIRST_STEP[name]
    failed = probe_failure(sources, source(text))
    assert re.search(message, failed.message)
    assert failed.hint
    assert "\n" not in str(failed)


def test_an_import_that_is_missing_names_both_the_line_and_the_versions(sources: Sources) -> None:
    files = {"net.py": "from parts.layers import Net", "parts/layers.py": "\nimport absent_package"}
    failed = probe_failure(sources, files)
    assert isinstance(failed, ImportFailed)
    assert failed.message.startswith(
        "parts/layers.py:2: ModuleNotFoundError: No module named 'absent_package' (the server has "
        f"Python {platform.python_version()}, torch {torch.__version__}, numpy "
    )
    assert "--install" in failed.hint


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"width": 4, "hiden": 3},
            r"net.py:1: got an unexpected keyword argument 'hiden': build\(schema, \*, ",
        ),
        (
            {},
            r"net.py:1: missing a required .*argument: 'width': build\(schema, \*, width, hidden=8",
        ),
    ],
)
def test_options_that_build_does_not_take(
    config: dict[str, Any], message: str, sources: Sources
) -> None:
    files = {"net.py": "def build(schema, *, width, hidden=8):\n    return None"}
    failed = probe_failure(sources, files, config=config)
    assert re.search(message, failed.message)
    assert "--set NAME=VALUE" in failed.hint


@pytest.mark.parametrize(
    ("samples", "loss", "message"),
    [
        (X_Y, "mqe", r"there is no loss 'mqe'"),
        (schema({"x": ("float32", (4,))}), "mse", r"loss mse compares with one tensor, .* 0"),
        (
            schema({"x": ("float32", (4,)), "z": ("float32", ())}),
            None,
            r"there is no function loss, and the samples' tensors do not say which",
        ),
        (
            schema({"x": ("float32", (4,))}, {"a": ("bool", ()), "b": ("bool", ())}),
            None,
            r"there is no function loss",
        ),
        (
            schema({"x": ("float32", (4,))}),
            None,
            r"loss reconstruction: outputs float32 \[2, 1\], x float32 \[2, 4\]",
        ),
        (
            schema({"x": ("float32", (4,))}, {"y": ("int64", ())}),
            None,
            r"loss cross_entropy: .*: Target \d+ is out of bounds",
        ),
    ],
)
def test_a_loss_that_does_not_fit_the_samples(
    samples: Any, loss: str | None, message: str, sources: Sources
) -> None:
    text = (
        "class Net(nn.Linear):\n"
        "    def forward(self, x, z=None):\n        return super().forward(x)\n"
        "def build(schema):\n    return Net(4, 1)\n"
    )
    assert re.search(
        message, probe_failure(sources, source(text), samples=samples, loss=loss).message
    )


def test_a_function_and_a_name_for_the_loss(sources: Sources) -> None:
    text = GOOD + "def loss(outputs, batch):\n    return outputs.mean()"
    failed = probe_failure(sources, source(text), loss="mse")
    assert "net.py:6: there is a function loss, and 'mse' was asked for" in failed.message


def test_outputs_of_many_tensors_need_a_loss_of_their_own(sources: Sources) -> None:
    text = """
    class Net(nn.Linear):
        def forward(self, x):
            return {"a": super().forward(x), "b": x}
    def build(schema):
        return Net(4, 1)
    """
    failed = probe_failure(sources, source(text))
    assert (
        "loss mse needs one tensor, and forward returned {a: float32 [2, 1], b:" in failed.message
    )


def test_a_step_that_does_not_repeat_is_told_not_refused(sources: Sources) -> None:
    text = """
    import os
    class Net(nn.Linear):
        def forward(self, x):
            noise = int.from_bytes(os.urandom(3), "big") / 2**24 if self.training else 1.0
            return super().forward(x) * noise
    def build(schema):
        return Net(4, 1)
    """
    task = sources.add(source(text))
    found = sources.device().probe(run_config(task, X_Y), make_batch(X_Y, 2))
    assert found.differs == "loss"


def test_a_later_step_that_does_not_repeat_is_not_taken_for_lost_state(sources: Sources) -> None:
    text = """
    import os
    class Net(nn.Linear):
        def __init__(self):
            super().__init__(4, 1)
            self.register_buffer("seen", torch.zeros(()))
        def forward(self, x):
            if self.training:
                self.seen += 1
            noise = int.from_bytes(os.urandom(3), "big") / 2**24 if self.seen > 1 else 1.0
            return super().forward(x) * noise
    def build(schema):
        return Net()
    """
    task = sources.add(source(text))
    found = sources.device().probe(run_config(task, X_Y), make_batch(X_Y, 2))
    assert found.differs is not None


def test_batch_norm_of_one_sample_is_told(sources: Sources) -> None:
    text = "def build(schema):\n    return nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 1))"
    task = sources.add(source(text))
    found = sources.device().probe(run_config(task, X_Y), make_batch(X_Y, 2))
    assert found.alone is not None
    assert "Expected more than 1 value per channel" in found.alone


def test_the_log_has_the_frames_of_the_source_alone(
    sources: Sources, caplog: pytest.LogCaptureFixture
) -> None:
    files = {
        "net.py": "import inner\n\ndef build(schema):\n    return inner.make()\n",
        "inner.py": "def make():\n    raise ValueError('no width')\n",
    }
    with caplog.at_level(logging.ERROR):
        failed = probe_failure(sources, files)
    assert failed.message == "inner.py:2: ValueError: no width"
    assert [record.getMessage() for record in caplog.records] == [
        "Traceback (the frames of the run's own source):\n"
        "  net.py:4 in build\n    return inner.make()\n"
        "  inner.py:2 in make\n    raise ValueError('no width')\n"
        "ValueError: no width"
    ]


def test_a_failed_step_changes_nothing(sources: Sources) -> None:
    text = """
    class Net(nn.Linear):
        def __init__(self):
            super().__init__(4, 1)
            self.register_buffer("seen", torch.zeros(()))
        def forward(self, x):
            self.seen += 1
            if x.max() > 50:
                raise ValueError("too large")
            return super().forward(x)
    def build(schema):
        return Net()
    """
    executor = sources.device().make_executor(run_config(sources.add(source(text)), X_Y))
    batch = make_batch(X_Y, 6)
    executor.step(batch, 1, micro_batch_size=3)
    before = executor.state()
    batch["x"][5] = 99
    with pytest.raises(TaskFailed, match=r"net.py:12: ValueError: too large"):
        executor.step(batch, 2, micro_batch_size=3)
    after = executor.state()
    assert all(np_equal(before[name], after[name]) for name in before)


def np_equal(some: Any, other: Any) -> bool:
    return bool((some == other).all())


def test_no_bytecode_is_written_into_the_source(sources: Sources) -> None:
    task = sources.add(source(GOOD))
    sources.device().make_executor(run_config(task, X_Y))
    names = {path.name for path in (sources.folder / task.code_sha256).iterdir()}
    assert names == {"net.py", "number.txt"}
    assert sys.dont_write_bytecode
