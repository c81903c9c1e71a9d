"""Whatever is wrong is named in one line on standard error, with a status of its own."""

import http.server
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from omega21.cli.app import run
from omega21.cli.errors import report
from tests.cli.conftest import TOKEN, Omega21
from tests.servers import RunningServer

CLOSED = "http://127.0.0.1:1"  # nothing listens on port 1


def error_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that was printed, without its beginning."""
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1, err
    assert err.startswith("error: ")
    return err.removeprefix("error: ").rstrip()


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("COLAB_SERVER_URL", raising=False)
    monkeypatch.delenv("OMEGA21_TOKEN", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--samples", "0"], "--samples"),
        (["--muestras", "many"], "--muestras"),
        (["--batch-size", "0"], "--batch-size"),
        (["--batch-size", "70000"], "batch-size"),
        (["--kind", "other"], "--kind"),
        (["--anomaly-percent", "101"], "--anomalias"),
        (["--seed", "-1"], "--semilla"),
        (["--epochs", "0"], "--epocas"),
        (["--epochs", "2000000"], "epochs"),
        (["--validation", "-1"], "--validacion"),
        (["--preset", "fast"], "prueba_rapida"),
        (["--every", "soon"], "--every"),
        (["--every", "0s"], "at least 1 s"),
        (["--patience", "1y"], "--patience"),
        (["--run", "Not A Name"], "'Not A Name'"),
        (["--data", "a.npz", "--kind", "simple"], "--data"),
        (["--unknown"], "--unknown"),
        (["one", "two"], "two"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_option_out_of_range_is_named_before_anything_begins(
    arguments: list[str], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["train", "--workdir", "w", *arguments]) == 2
    assert named in error_line(capsys)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("address", "status"),
    [("ftp://example.org", 13), ("example.org", 13), ("http://user:pass@host", 13)],
)
def test_an_address_that_is_none_is_refused(
    address: str, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["status", address]) == status
    assert "pass@" not in error_line(capsys)


def _save(path: Path, x: np.ndarray, y: np.ndarray) -> None:
    np.savez(path, x=x.astype(np.float32), y=y.astype(np.float32))


def _spoil(path: Path, what: str) -> None:
    x, y = np.zeros((4, 1600)), np.array([0, 1, 0, 1])
    if what == "narrow":
        x = x[:, :1599]
    elif what == "nan":
        x[3, 7] = np.nan
    elif what == "label":
        y[2] = 2
    elif what == "empty":
        x, y = x[:0], y[:0]
    _save(path, x, y)


@pytest.mark.parametrize(
    ("what", "status", "words"),
    [
        ("narrow", 10, "set.npz: tensor x has shape [4, 1599], expected [n, 1600]"),
        ("nan", 10, "sample 3"),
        ("label", 10, "sample 2"),
        ("empty", 10, "no samples"),
        ("missing", 12, "no file"),
        ("text", 12, "not a .npz file"),
        ("ending", 12, "unknown extension"),
    ],
)
def test_a_data_file_that_is_none_is_named(
    what: str,
    status: int,
    words: str,
    server: RunningServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / ("set.csv" if what == "ending" else "set.npz")
    if what in {"text", "ending"}:
        path.write_text("1, 2, 3")
    elif what != "missing":
        _spoil(path, what)

    arguments = ["train", server.address, "--token", TOKEN, "--workdir", "w", "--json"]
    assert run([*arguments, "--run", "bad", "--data", str(path)]) == status
    assert words in error_line(capsys)
    assert not (tmp_path / "w").exists()


def test_an_unreachable_server_has_a_status_of_its_own(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(["train", CLOSED, "--workdir", "w", "--run", "far", "--json"]) == 71
    assert error_line(capsys).endswith(
        "check the address and that the server and its tunnel are running"
    )
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize("token", [[], ["--token", "guess"]])
def test_a_wrong_token_has_a_status_of_its_own(
    token: list[str], server: RunningServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["train", server.address, "--workdir", "w", "--json", "--run", "a", *token]) == 18
    assert "OMEGA21_TOKEN" in error_line(capsys)


@pytest.fixture
def website() -> Iterator[str]:
    """Something that speaks HTTP and is no omega21."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", "4")
            self.end_headers()
            self.wfile.write(b"<h1>")

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as site:
        thread = threading.Thread(target=site.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{site.server_address[1]}"
        site.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--evaluate-every", "sometimes"], "--evaluate-every takes epoch, never or a number"),
        (["--evaluate-every", "0"], "--evaluate-every takes epoch, never or a number"),
        (["--logger", "comet"], "there is no logger 'comet'; choose one of tensorboard, mlflow"),
        (["--logger", "nowhere:Mine"], "'nowhere:Mine' is not a logger: No module named 'nowhere'"),
    ],
)
def test_what_is_to_be_shown_is_checked_before_anything_is_made(
    arguments: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["train", "--workdir", str(tmp_path), *arguments]) == 2
    assert says in error_line(capsys)
    assert not list(tmp_path.iterdir())


def test_another_website_has_a_status_of_its_own(
    website: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["status", website]) == 73
    assert "not an answer of an omega21 server" in error_line(capsys)


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["status", "--run", "nobody"], 21),
        (["metrics", "--run", "nobody"], 21),
        (["runs", "show", "nobody"], 21),
        (["runs", "pause", "nobody"], 21),
        (["export", "weights", "nobody", "-o", "w.safetensors"], 21),
        (["feedback", "--adjustments", "0,0", "--validated"], 2),
        (["feedback", "--adjustments", ",".join(["2"] * 16), "--validated"], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_a_server_does_not_have_is_named(
    arguments: list[str],
    status: int,
    server_environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in server_environment.items():
        monkeypatch.setenv(name, value)
    assert run(arguments) == status
    error_line(capsys)


def test_what_this_machine_does_not_have_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["runs", "show", "nobody"], ["export", "weights", "nobody", "-o", "w"]):
        assert run([*arguments, "--workdir", "w"]) == 21
        assert "--url" in error_line(capsys)
    assert run(["runs", "remove", "nobody", "--yes", "--workdir", "w"]) == 39
    error_line(capsys)
    assert run(["runs", "--workdir", "w", "show", "nobody"]) == 2
    assert "omega21 runs show" in error_line(capsys)


def test_another_seed_is_another_run(
    server: RunningServer, capsys: pytest.CaptureFixture[str]
) -> None:
    where = [server.address, "--token", TOKEN, "--workdir", "w", "--run", "seeded"]
    order = ["train", *where, "--samples", "16", "--validation", "0"]
    show = ["runs", "show", "seeded", "--url", server.address, "--token", TOKEN, "--json"]
    assert run([*order, "--quiet"]) == 0

    def shown() -> dict[str, object]:
        assert run(show) == 0
        found: dict[str, object] = json.loads(capsys.readouterr().out)
        del found["durable_step"]  # a checkpoint may still be on its way to the disk
        return found

    before = shown()
    assert run([*order, "--seed", "43", "--quiet"]) == 32
    assert "seed is 42, asked for 43" in error_line(capsys)
    assert shown() == before


def test_a_file_that_cannot_be_written_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["generate", "no/such/folder.npz", "--samples", "1"]) == 2
    assert "there is no folder no/such" in error_line(capsys)


@pytest.mark.parametrize("command", [["train", "--workdir", "w"], ["serve"]])
def test_without_the_server_extra_one_line_says_what_to_install(
    command: list[str],
    environment: dict[str, str],
    tmp_path: Path,
) -> None:
    import subprocess

    without_torch = "import sys; sys.modules['torch'] = None; " + (
        "from omega21.cli.app import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", without_torch, *command],
        check=False,
        capture_output=True,
        encoding="utf-8",
        env=environment,
        cwd=tmp_path,
    )
    assert done.returncode == 54
    assert "pip install '.[server]'" in done.stderr.splitlines()[-1]


def test_a_fault_is_one_line_that_says_where_its_trace_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert report(ZeroDivisionError("of no use")) == 55
    line = error_line(capsys)
    trace = Path(line.partition("the traceback is in ")[2].partition("; -v")[0])
    try:
        assert "ZeroDivisionError" in trace.read_text()
    finally:
        trace.unlink()


def test_what_a_server_cannot_start_with_is_one_line(omega21: Omega21) -> None:
    refused = omega21("serve", "--host", "0.0.0.0", "--port", "0")
    assert (refused.status, refused.stdout) == (2, "")
    assert refused.stderr.startswith("error: 0.0.0.0 can be reached from other machines")
    assert refused.stderr.count("\n") == 1
