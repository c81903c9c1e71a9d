"""The user's own source over a real connection: allowed, sent once, kept, moved, repeated."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from omega21 import AsyncClient
from omega21.client.events import Notice
from omega21.client.request.data import look_at, with_schema
from omega21.client.request.model import with_model
from omega21.client.request.request import TrainRequest
from omega21.client.store.archive import export_run, import_run
from omega21.client.store.run_folder import RunFolder
from omega21.client.training.options import TrainOptions
from omega21.data.code.bundle import CodeBundle, prepare_code
from omega21.protocol.errors import (
    CodeNotAllowed,
    InvalidCode,
    OtherConfig,
    RunFolderConflict,
    UnknownCode,
)
from omega21.protocol.tasks.task import CodeTask
from tests.client.runs import done, of_type, stored, train
from tests.servers import RunningServer, start_server

pytestmark = pytest.mark.anyio

RNG = np.random.default_rng(0)
DATA = {"x": RNG.normal(size=(64, 8)).astype(np.float32), "y": RNG.integers(0, 3, 64)}
NET = """\
from torch import nn
from layers.block import block


def build(schema, *, hidden=8):
    return nn.Sequential(*block(8, hidden), nn.Linear(hidden, 3))
"""
BLOCK = """\
from torch import nn


def block(n, hidden):
    return nn.Linear(n, hidden), nn.BatchNorm1d(hidden), nn.ReLU()
"""
TOKEN = "a-token-of-the-source"


def write_net(folder: Path) -> Path:
    """Write a model of ten files, of about 200 kB."""
    (folder / "layers").mkdir(parents=True)
    (folder / "net.py").write_text(NET, encoding="utf-8")
    for name in ("__init__", "block"):
        (folder / "layers" / f"{name}.py").write_text(BLOCK, encoding="utf-8")
    for number in range(7):
        text = RNG.integers(0, 10**9, 3000).tolist()
        (folder / "layers" / f"table_{number}.txt").write_text(str(text), encoding="utf-8")
    return folder


def own(run: str, folder: Path, **options: Any) -> TrainRequest:
    """Order six steps of the model."""
    request = TrainRequest(run=run, data=DATA, samples=48, validation=8, batch_size=16, epochs=2)
    return with_model(request, f"{folder}/net.py:build", include=["layers/*.txt"], **options)


def task_of(request: TrainRequest) -> CodeTask:
    assert isinstance(request.task, CodeTask)
    return request.task


def client_of(server: RunningServer, **options: Any) -> AsyncClient:
    return AsyncClient(server.address, token=server.token, **options)


def requests_in(server: RunningServer, since: int) -> list[str]:
    """The requests about source in a server's log."""
    lines = server.log[since:].splitlines()
    return [line.split("errors: ")[1].split(" (")[0] for line in lines if " /code" in line]


async def test_it_is_sent_once_and_kept(server: RunningServer, tmp_path: Path) -> None:
    folder, since = write_net(tmp_path / "src"), len(server.log)
    order = own("code-first", folder, options={"hidden": 12})
    assert order.code is not None
    assert (len(order.code.files), 150_000 < order.code.size < 250_000) == (10, True)
    async with client_of(server) as client:
        events = await train(client, order, workdir=tmp_path / "runs")
        sent = requests_in(server, since)
        again = await train(
            client, own("code-second", folder, options={"hidden": 12}), workdir=tmp_path / "runs"
        )
    assert done(events).summary.steps == 6
    path = f"/code/{task_of(order).code_sha256}"
    assert sent == ["POST /code/missing -> 200", f"PUT {path} -> 201"]
    assert requests_in(server, since) == [*sent, "POST /code/missing -> 200"]
    assert any("source sent: 10 files" in one.text for one in of_type(events, Notice))
    assert stored(tmp_path / "runs" / "code-first") == stored(tmp_path / "runs" / "code-second")
    assert done(again).summary.weights_sha256 == done(events).summary.weights_sha256
    with RunFolder.open(tmp_path / "runs" / "code-first") as kept:
        assert kept.code() == order.code.body
    assert f"source sha256:{task_of(order).code_sha256} accepted: 10 files" in server.log


async def test_a_model_and_arrays_are_enough(server: RunningServer, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\ndef build(schema, *, hidden=8):\n    print('hidden', hidden)\n"
        "    return nn.Sequential(nn.Linear(8, hidden), nn.ReLU(), nn.Linear(hidden, 3))\n",
        encoding="utf-8",
    )
    options = TrainOptions(workdir=tmp_path / "runs")
    async with client_of(server) as client:
        training = client.train(
            options=options,
            model=f"{tmp_path}/net.py:build",
            model_options={"hidden": 4},
            data=DATA,
            validation=8,
            batch_size=16,
        )
        async with training as events:
            seen = [event async for event in events]
        finished = done(seen)
        assert (finished.summary.steps, finished.state.config.task.config) == (4, {"hidden": 4})
        predicted = await client.predict(finished.state.run, DATA["x"])
        log = await client.api.runs.log(finished.state.run)
        after = await client.api.runs.log(finished.state.run, after=log.lines[-1].number)
    assert "hidden 4" in [line.text for line in log.lines]
    assert after.lines == []
    assert {name: len(array) for name, array in predicted.outputs.items()}["output"] == 64


async def test_it_moves_with_its_run(
    server: RunningServer, new_server: Callable[[str], RunningServer], tmp_path: Path
) -> None:
    """The source is gone on the PC; the archive brings it to an empty server."""
    folder = write_net(tmp_path / "src")
    async with client_of(server) as client:
        await train(client, own("code-moved", folder), workdir=tmp_path / "one")
    shutil.rmtree(folder)
    export_run("code-moved", tmp_path / "run.zip", workdir=tmp_path / "one")
    import_run(tmp_path / "run.zip", workdir=tmp_path / "two")
    other = new_server("other")
    async with client_of(other) as client:
        verified = await client.verify("code-moved", workdir=tmp_path / "two")
        assert verified.weights_known
        assert await client.api.code.missing(["0" * 64]) == ["0" * 64]


async def test_a_run_that_is_only_on_the_server_brings_its_source(
    server: RunningServer, tmp_path: Path
) -> None:
    folder = write_net(tmp_path / "src")
    order = own("code-fetched", folder)
    async with client_of(server) as client:
        await train(client, order, workdir=tmp_path / "one")
        more = replace(order, samples=8, batch_size=8, validation=0, code=None)
        await train(client, more, workdir=tmp_path / "two")
    with RunFolder.open(tmp_path / "two" / "code-fetched") as kept:
        assert order.code is not None
        assert kept.code() == order.code.body


async def test_changed_source_is_another_configuration(
    server: RunningServer, tmp_path: Path
) -> None:
    folder = write_net(tmp_path / "src")
    async with client_of(server) as client:
        await train(client, own("code-changed", folder), workdir=tmp_path)
        (folder / "layers" / "block.py").write_text(BLOCK + "\n", encoding="utf-8")
        with pytest.raises(OtherConfig, match=r"task\.code_sha256 is"):
            await train(client, own("code-changed", folder), workdir=tmp_path)


async def test_a_damaged_archive_is_refused(server: RunningServer, tmp_path: Path) -> None:
    folder = write_net(tmp_path / "src")
    async with client_of(server) as client:
        await train(client, own("code-damaged", folder), workdir=tmp_path / "one")
    code = tmp_path / "one" / "code-damaged" / "code.bin"
    code.write_bytes(code.read_bytes()[:-1])
    export_run("code-damaged", tmp_path / "run.zip", workdir=tmp_path / "one")
    with pytest.raises(RunFolderConflict, match=r"code\.bin: the source is truncated"):
        import_run(tmp_path / "run.zip", workdir=tmp_path / "two")
    assert not (tmp_path / "two" / "code-damaged").exists()


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that executes no source."""
    folder = tmp_path_factory.mktemp("strict") / "data"
    with start_server(folder, "--threads", "1", token=TOKEN) as running:
        yield running


async def test_without_consent_nothing_is_read_sent_or_made(
    strict: RunningServer, tmp_path: Path
) -> None:
    order = own("no-consent", write_net(tmp_path / "src"))
    assert order.code is not None
    before = sorted(strict.data_dir.rglob("*.bin"))
    hint = r"omega21 serve --allow-code.*OMEGA21_ALLOW_CODE=1.*shell"
    async with client_of(strict) as client:
        with pytest.raises(CodeNotAllowed, match=hint):
            await train(client, order, workdir=tmp_path / "runs")
        with pytest.raises(CodeNotAllowed, match="omega21 serve --allow-code"):
            await client.api.code.put(order.code.sha256, order.code.body)
        with pytest.raises(CodeNotAllowed, match="omega21 serve --allow-code"):
            await client.api.runs.create("no-consent", run_id="a" * 32, config=_config(order))
        assert "no-consent" not in {one.run for one in await client.runs()}
        info = await client.connect()
    assert (info.allowed_code, info.allows_install) == ([], False)
    assert not (tmp_path / "runs" / "no-consent").exists()
    assert sorted(strict.data_dir.rglob("*.bin")) == before


def _config(order: TrainRequest) -> Any:
    opened = look_at(order)
    assert opened is not None
    return with_schema(order, opened.samples).config()


async def test_consent_to_a_digest_is_to_that_source_alone(tmp_path: Path) -> None:
    folder = write_net(tmp_path / "src")
    order = own("one-digest", folder)
    assert order.code is not None
    options = ("--threads", "1", "--allow-code", f"sha256:{order.code.sha256}")
    with start_server(tmp_path / "data", *options, token=TOKEN) as server:
        async with client_of(server) as client:
            events = await train(client, order, workdir=tmp_path / "runs")
            (folder / "net.py").write_text(NET + "# other\n", encoding="utf-8")
            other = own("other-digest", folder)
            assert other.code is not None
            with pytest.raises(CodeNotAllowed, match=f"--allow-code sha256:{other.code.sha256}"):
                await train(client, other, workdir=tmp_path / "runs")
            with pytest.raises(CodeNotAllowed, match=f"--allow-code sha256:{other.code.sha256}"):
                await client.api.code.put(other.code.sha256, other.code.body)
    assert done(events).summary.steps == 6


async def test_a_restart_without_consent_executes_nothing(tmp_path: Path) -> None:
    order = own("revoked", write_net(tmp_path / "src"))
    with start_server(tmp_path / "data", "--threads", "1", "--allow-code") as server:
        async with client_of(server) as client:
            await train(client, order, workdir=tmp_path / "runs")
    with start_server(tmp_path / "data", "--threads", "1") as server:
        async with client_of(server) as client:
            with pytest.raises(CodeNotAllowed):
                await client.predict("revoked", DATA["x"])
            with pytest.raises(CodeNotAllowed):
                await client.info("revoked")
            assert (await client.connect()).run == "default"


async def test_the_environment_gives_consent(tmp_path: Path) -> None:
    environment = {"OMEGA21_ALLOW_CODE": "1"}
    with start_server(tmp_path / "data", "--threads", "1", environment=environment) as server:
        async with client_of(server) as client:
            assert (await client.connect()).allowed_code == ["any"]


async def test_files_that_a_run_changed_are_made_again(tmp_path: Path) -> None:
    """A model that changes or deletes its folder harms neither itself nor another run."""
    order = own("first", write_net(tmp_path / "src"))
    with start_server(tmp_path / "data", "--threads", "1", "--allow-code") as server:
        async with client_of(server) as client:
            first = await train(client, order, workdir=tmp_path / "runs")
        place = tmp_path / "data" / "code" / task_of(order).code_sha256
        (place / "net.py").write_text("raise SystemExit", encoding="utf-8")
        (place / "layers" / "block.py").unlink()
        (place / "more.py").symlink_to("/etc/passwd")
        server.kill()
        server.restart()
        async with client_of(server) as client:
            second = await train(client, own("second", tmp_path / "src"), workdir=tmp_path / "runs")
        assert done(second).summary.weights_sha256 == done(first).summary.weights_sha256
        assert {path.name for path in place.iterdir()} == {"net.py", "layers"}


async def test_a_server_that_lost_the_source_gets_it_again(tmp_path: Path) -> None:
    order = own("lost", write_net(tmp_path / "src"))
    with start_server(tmp_path / "data", "--threads", "1", "--allow-code") as server:
        async with client_of(server) as client:
            first = await train(client, order, workdir=tmp_path / "runs")
        server.kill()
        shutil.rmtree(tmp_path / "data" / "code")
        server.restart()
        async with client_of(server) as client:
            with pytest.raises(UnknownCode):
                await client.predict("lost", DATA["x"])
            more = TrainRequest(
                run="lost", task=order.task, data=DATA, samples=8, validation=8, batch_size=8
            )
            again = await train(client, more, workdir=tmp_path / "runs")
    assert (done(first).summary.steps, done(again).summary.steps) == (6, 1)


async def test_a_server_offers_its_own_model(tmp_path: Path) -> None:
    folder = write_net(tmp_path / "src")
    bundle = prepare_code(f"{folder}/net.py:build")
    options = ("--threads", "1", "--model", f"{folder}/net.py:build")
    request = TrainRequest(run="offered", data=DATA, samples=48, validation=8, batch_size=16)
    order = with_model(request, "server", options={"hidden": 6})
    with start_server(tmp_path / "data", *options, token=TOKEN) as server:
        async with client_of(server) as client:
            offers = (await client.api.code.describe()).offers
            assert [(one.entry, one.sha256) for one in offers] == [("net:build", bundle.sha256)]
            shutil.rmtree(folder)  # what it was started with stays
            server.kill_child()
            events = await train(client, order, workdir=tmp_path / "runs")
    assert done(events).summary.steps == 3
    with RunFolder.open(tmp_path / "runs" / "offered") as kept:
        assert kept.record.config.task == CodeTask(
            entry="net:build", code_sha256=bundle.sha256, config={"hidden": 6}
        )
        found = CodeBundle.of_body(kept.code() or b"", entry="net:build", sha256=bundle.sha256)
    assert found == bundle


async def test_nothing_is_offered_by_default(server: RunningServer, tmp_path: Path) -> None:
    order = with_model(TrainRequest(run="none", data=DATA), "server")
    async with client_of(server) as client:
        with pytest.raises(UnknownCode, match="omega21 serve --model"):
            await train(client, order, workdir=tmp_path)
    assert not (tmp_path / "none").exists()


async def test_a_tampered_body_changes_nothing(server: RunningServer, tmp_path: Path) -> None:
    bundle = prepare_code(f"{write_net(tmp_path / 'src')}/net.py:build")
    async with client_of(server) as client:
        for body in (bundle.body[:-3], bundle.body + b"x", b"", b"x" * 100):
            with pytest.raises(InvalidCode):
                await client.api.code.put(bundle.sha256, body)
        with pytest.raises(InvalidCode, match="the source was named"):
            await client.api.code.put("1" * 64, bundle.body)
        with pytest.raises(UnknownCode):
            await client.api.code.get("1" * 64)
        assert await client.api.code.missing(["1" * 64]) == ["1" * 64]


async def test_a_run_of_source_that_is_not_there_is_not_made(
    server: RunningServer, tmp_path: Path
) -> None:
    order = own("absent", write_net(tmp_path / "src"))
    config = _config(order)
    gone = config.task.model_copy(update={"code_sha256": "2" * 64})
    async with client_of(server) as client:
        with pytest.raises(UnknownCode):
            await client.api.runs.create(
                "absent", run_id="b" * 32, config=config.model_copy(update={"task": gone})
            )
        assert "absent" not in {one.run for one in await client.runs()}
