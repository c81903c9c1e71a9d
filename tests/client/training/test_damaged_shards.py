"""A shard of the run folder that is damaged is made again from its source, or named."""

from collections.abc import Callable
from pathlib import Path

import pytest

from omega21 import AsyncClient
from omega21.client.store.run_folder import RunFolder
from omega21.client.training.upload import SegmentUpload
from omega21.data.sources.files import write_data
from omega21.data.sources.generators import generate
from omega21.protocol.errors import RunFolderConflict
from omega21.protocol.plan import Source
from tests.client.folders import make_run

pytestmark = pytest.mark.anyio

HARMS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _body: b"",
    "cut short": lambda body: body[: len(body) // 2],
    "one bit": lambda body: body[:-9] + bytes([body[-9] ^ 1]) + body[-8:],
    "of other samples": lambda _body: b"(\xb5/\xfd\x04\x00\x01\x00\x00\x99\xe9\xd8\x51",
}


@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS)
async def test_one_of_made_samples_is_made_again(
    harm: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    (path,) = (make_run(tmp_path, "one") / "shards").iterdir()
    whole = path.read_bytes()
    path.write_bytes(harm(whole))
    with RunFolder.open(tmp_path / "one") as folder:
        assert _body(folder) == path.read_bytes()
    assert path.read_bytes() != harm(whole)


async def test_one_whose_data_file_has_changed_is_named(tmp_path: Path) -> None:
    (path,) = (make_run(tmp_path, "one") / "shards").iterdir()
    path.write_bytes(b"")
    data = tmp_path / "x.npz"
    write_data(data, generate("simple", 1, range(8), anomaly_percent=10, features=1600).tensors)
    with RunFolder.open(tmp_path / "one") as folder:
        (segment,) = folder.segments
        source = Source(kind="file", file_sha256="e" * 64)
        folder.segments = (segment.model_copy(update={"source": source}),)
        folder.update(files={"e" * 64: str(data)})
        with pytest.raises(RunFolderConflict, match="cannot be created again") as caught:
            _body(folder)
    assert str(path) in caught.value.message
    assert path.read_bytes() == b""


def _body(folder: RunFolder) -> bytes:
    async def emit(_event: object) -> None:
        """Nobody listens."""

    client = AsyncClient("http://127.0.0.1:9")
    upload = SegmentUpload(client.api, folder, number=0, emit=emit)
    return upload._body(0, folder.segments[0].shards[0])
