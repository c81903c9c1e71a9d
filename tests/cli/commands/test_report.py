"""A run's report and its tables: what they say, and that a run's texts stay texts."""

import json
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import get_args
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from omega21.cli.app import run
from omega21.cli.report.file import ReportFormat, write_report
from omega21.client.run_reader import open_stored_run
from omega21.client.store.run_folder import RunFolder
from omega21.client.store.tables import write_table
from omega21.language import choose_language
from omega21.protocol.errors import ExtraMissing
from tests.cli.conftest import TOKEN, Omega21
from tests.programs import require_program
from tests.servers import RunningServer

MARKUP = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def workdir(server: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run folders with `shown`, trained twice, evaluated on the way, its texts full of markup."""
    place = tmp_path_factory.mktemp("runs")
    where = ["train", server.address, "--token", TOKEN, "--workdir", str(place), "--quiet"]
    size = ["--samples", "96", "--batch-size", "16", "--validation", "60", "--run", "shown"]
    size += ["--anomaly-percent", "20", "--evaluate-every", "2", "--epochs", "2"]
    assert run([*where, *size, "--no-report"]) == 0
    assert run([*where, *size]) == 0
    with RunFolder.open(place / "shown") as folder:
        folder.update(server=f"http://{MARKUP}/", files={"a" * 64: f"/data/{MARKUP}.npz"})
        folder.note("moved", server=MARKUP)
        finished = json.loads(
            next(
                line
                for line in reversed((place / "shown" / "log.jsonl").read_text().splitlines())
                if '"finished"' in line
            )
        )
        finished["server"]["last_death"] = MARKUP
        feedback = {"recibido": 4, "exitoso": 3, "tasa_exito": 0.75}
        finished["server"]["estadisticas"]["feedback"] = feedback
        folder.note("finished", **{k: v for k, v in finished.items() if k not in {"time", "what"}})
    return place


class Elements(HTMLParser):
    """Counts elements and keeps the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_training_writes_it_and_says_where_unless_it_is_told_not_to(
    on_server: Omega21, tmp_path: Path
) -> None:
    size = ("--samples", "32", "--batch-size", "16", "--validation", "20", "--workdir", tmp_path)
    with_report = on_server("train", "--run", "with", *size)
    without = on_server("train", "--run", "without", *size, "--no-report")

    path = tmp_path / "with" / "report.html"
    assert with_report.stdout.splitlines()[-1] == f"report  {path}"
    assert path.exists()
    assert "report" not in without.stdout
    assert not (tmp_path / "without" / "report.html").exists()


def test_the_page_says_all_of_it_and_loads_nothing(workdir: Path) -> None:
    path = write_report("shown", workdir=workdir)
    text = path.read_text(encoding="utf-8")
    page = Elements(text)

    assert path == workdir / "shown" / "report.html"
    for said in (
        *("What was trained", "AUROC", "best threshold", "Restarts", "Reproducing it"),
        *("Vectors", "coherence, a row for each value"),
        *("success rate", "75%", "omega21 verify shown", "Train it again from the start"),
    ):
        assert said in page.text
    command = "omega21 train --run shown-again --samples 96 --batch-size 16 --epochs 2 --seed 42"
    assert page.text.count(command) == 2
    assert page.names.count("svg") == 13
    assert "script" not in page.names
    loaded = {"src", "srcset", "data", "action"} & {name for name, _ in page.attributes}
    assert not loaded
    links = [value for name, value in page.attributes if name in {"href", "xlink:href"}]
    assert all(link.startswith("#") for link in links)
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"url\(#([^)]+)\)", text)) <= set(ids)
    assert {link[1:] for link in links} <= set(ids)
    assert "Content-Security-Policy" in text
    assert "prefers-color-scheme: dark" in text


def test_texts_of_a_run_are_shown_as_text(workdir: Path) -> None:
    html = write_report("shown", workdir=workdir).read_text(encoding="utf-8")
    markdown = write_report("shown", workdir=workdir, kind="markdown").read_text()

    page = Elements(html)
    assert "img" not in page.names
    assert MARKUP in page.text  # as the server's last words, and its address
    assert "<img" not in html
    assert "<img" not in markdown.replace("\\<img", "")


def test_charts_are_drawings_that_can_be_read(workdir: Path) -> None:
    html = write_report("shown", workdir=workdir).read_text(encoding="utf-8")
    charts = re.findall(r"<svg.*?</svg>", html, re.DOTALL)

    for chart in charts:
        drawn = ET.fromstring(chart)
        assert drawn.get("role") == "img"
        assert drawn.get("aria-label")
        assert "mathdefault" not in chart
        assert not re.search(r"#(101113|a0a1a3|2563eb|d97706)", chart)
    assert "var(--first)" in html


@pytest.mark.parametrize("kind", get_args(ReportFormat))
def test_without_what_draws_charts_a_report_says_how_to_install_it(
    workdir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: ReportFormat
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr("omega21.cli.report.charts.find_spec", lambda _: None)
    path = write_report("shown", workdir=workdir, kind=kind, path=tmp_path / "report")

    assert list(tmp_path.iterdir()) == [path]
    written = unescape(path.read_text(encoding="utf-8")).replace("\\", "")
    assert written.count("pip install '.[report]'") == 3
    assert "average precision" in written


def test_the_same_run_makes_the_same_report(workdir: Path, tmp_path: Path) -> None:
    first, second = (
        write_report("shown", workdir=workdir, path=tmp_path / name).read_bytes()
        for name in ("first.html", "second.html")
    )
    assert first == second


def test_markdown_has_its_images_beside_it(workdir: Path) -> None:
    path = write_report("shown", workdir=workdir, kind="markdown")
    images = re.findall(r"!\[[^]]*\]\(([^)]+)\)", path.read_text(encoding="utf-8"))

    assert len(images) == 13
    for name in images:
        assert (path.parent / name).read_bytes().startswith(b"\x89PNG")


def test_numbers_and_dates_are_written_in_the_language_in_force(workdir: Path) -> None:
    try:
        choose_language("es")
        text = write_report("shown", workdir=workdir).read_text(encoding="utf-8")
    finally:
        choose_language("en")

    assert '<html lang="es">' in text
    assert "<dd>1,0000</dd>" in text or re.search(r"<dd>0,\d{4}</dd>", text)


@pytest.mark.parametrize("held_out", ["0", "5"])
def test_a_run_without_scores_has_a_report_too(
    held_out: str, on_server: Omega21, omega21: Omega21, tmp_path: Path
) -> None:
    size = ("--samples", "16", "--batch-size", "16", "--validation", held_out)
    on_server("train", "--run", "few", *size, "--anomaly-percent", "0", "--workdir", tmp_path)
    done = omega21("report", "few", "--workdir", tmp_path, "--json")
    text = Path(done.figures["file"]).read_text(encoding="utf-8")

    assert done.status == 0, done.stderr
    assert ("No samples were held out" if held_out == "0" else "all of one class") in text


def test_a_run_that_diverged_says_so_and_what_was_held_out(
    on_server: Omega21, tmp_path: Path
) -> None:
    path = tmp_path / "huge.npz"
    x = np.random.default_rng(3).normal(size=(400, 1600)).astype(np.float32)
    x[:300] = 1e30
    np.savez(path, x=x, y=(np.arange(400) % 2).astype(np.float32))
    order = ("--data", path, "--samples", "300", "--batch-size", "20", "--validation", "60")
    where = ("--workdir", tmp_path)
    trained = on_server("train", "--run", "spoilt", *order, *where)
    assert trained.status == 38, trained.stderr

    text = Elements(write_report("spoilt", workdir=tmp_path).read_text(encoding="utf-8")).text
    assert "The run diverged: the results of its last 10 steps, from step 1 on" in text
    assert "train another run with --run" in text
    assert "60 samples are held out and not scored yet" in text
    assert "No samples were held out" not in text


def test_it_is_shown_by_a_browser(workdir: Path, tmp_path: Path) -> None:
    path = write_report("shown", workdir=workdir)
    image = tmp_path / "page.png"
    subprocess.run(
        [
            *(require_program("chromium"), "--headless", "--no-sandbox", "--disable-gpu"),
            *("--disable-dev-shm-usage", f"--user-data-dir={tmp_path / 'profile'}"),
            *("--window-size=800,600", f"--screenshot={image}", path.as_uri()),
        ],
        check=True,
        capture_output=True,
    )
    assert image.stat().st_size > 5000


def test_a_run_that_is_not_here_says_so(omega21: Omega21, tmp_path: Path) -> None:
    for command in (["report"], ["export", "results"]):
        named = omega21(*command, "nobody", "--workdir", tmp_path)
        newest = omega21(*command, "--workdir", tmp_path)
        assert (named.status, newest.status) == (21, 21)
        assert "there is no run 'nobody' on this machine" in named.stderr
        assert "there is no run on this machine" in newest.stderr


# --- tables ---------------------------------------------------------------------------------------


def test_results_as_tables(workdir: Path, tmp_path: Path) -> None:
    import csv

    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    with closing(sqlite3.connect(workdir / "shown" / "results.sqlite")) as database:
        losses = [loss for (loss,) in database.execute("SELECT loss FROM steps ORDER BY step")]
    with open_stored_run("shown", workdir) as stored:
        rows = [
            write_table(stored.results, tmp_path / f"r.{kind}", kind=kind)
            for kind in ("csv", "jsonl", "parquet")
        ]
    with (tmp_path / "r.csv").open(newline="") as file:
        from_csv = list(csv.DictReader(file))
    from_jsonl = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    from_parquet = pq.read_table(tmp_path / "r.parquet").to_pylist()

    assert rows == [24, 24, 24]
    assert [float(row["loss"]) for row in from_csv] == losses
    assert [row["loss"] for row in from_jsonl] == losses
    assert from_parquet == from_jsonl
    assert [row["step"] for row in from_jsonl] == list(range(1, 25))
    assert from_jsonl[-1]["evaluation_auroc"] is not None
    assert list(from_csv[0]) == list(from_jsonl[0])


def test_parquet_without_its_extra_says_how_to_install_it(
    workdir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("omega21.client.store.tables.find_spec", lambda _: None)
    with (
        open_stored_run("shown", workdir) as stored,
        pytest.raises(ExtraMissing, match=r"pip install '\.\[parquet\]'"),
    ):
        write_table(stored.results, tmp_path / "r.parquet", kind="parquet")
    assert not (tmp_path / "r.parquet").exists()


def test_the_command_writes_a_file_by_the_runs_name(
    omega21: Omega21, workdir: Path, tmp_path: Path
) -> None:
    done = omega21("export", "results", "--workdir", workdir, "--format", "jsonl", "--json")

    assert done.figures == {"run": "shown", "file": "shown-results.jsonl", "rows": 24}
    lines = (tmp_path / "shown-results.jsonl").read_text().splitlines()
    assert len(lines) == 24
    assert np.isfinite(json.loads(lines[0])["loss"])
