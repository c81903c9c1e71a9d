"""The report, which is a page too, in a real browser."""

from pathlib import Path
from typing import Any

import pytest

from omega21.cli.report.blocks import Commands, KeyValues, Report, Section, Table, Text
from omega21.cli.report.html import write_html
from tests.dashboard.conftest import PHONE, Open
from tests.dashboard.test_accessibility import CONTRAST, FAINT_TEXTS

DIGEST = "0e89055d2400672b8f859e9be6a439f7" * 2
REPORT = Report(
    "una-corrida-de-nombre-muy-largo-que-no-cabe-en-un-telefono",
    "creada el 24 de noviembre de 2026, 22:01 UTC, paso 64 de 1.875",
    [("muestras por segundo", "185"), ("tiempo de cálculo", "11 s")],
    [
        Section(
            "Reinicios",
            [
                KeyValues([("veces que una orden ha trabajado en ella", "1"), ("plan", DIGEST)]),
                Table([f"columna {n}" for n in range(9)], [["semilla 42, desde la 0"] * 9]),
                Text("El mejor umbral."),
                Commands([f"omega21 train --run otra --file {DIGEST}"]),
            ],
        )
    ],
    f"Escrito por omega21 a partir de /home/{DIGEST}",
)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_report_fits_a_phone_and_stands_out(open_page: Open, tmp_path: Path, scheme: Any) -> None:
    path = tmp_path / "report.html"
    path.write_text(write_html(REPORT), encoding="utf-8")
    page = open_page(path.as_uri(), viewport=PHONE, color_scheme=scheme).page
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    found = page.evaluate(FAINT_TEXTS, CONTRAST)
    assert found["seen"] > 20
    assert found["faint"] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_of_a_report_is_cut_on_paper(open_page: Open, tmp_path: Path, scheme: Any) -> None:
    path = tmp_path / "report.html"
    path.write_text(write_html(REPORT), encoding="utf-8")
    paper = {"width": 680, "height": 1000}  # what A4 leaves between its margins
    page = open_page(path.as_uri(), viewport=paper, color_scheme=scheme).page
    page.emulate_media(media="print")
    cut = page.evaluate(
        """() => [...document.querySelectorAll("pre, td, .scroll")]
        .filter((e) => e.scrollWidth > e.clientWidth + 1 || e.getBoundingClientRect().right > 681)
        .map((e) => e.outerHTML)"""
    )
    assert cut == []
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
