"""Words that were dropped, in both languages, do not come back."""

import json
import re
from pathlib import Path

import pytest
from babel.messages.pofile import read_po

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "omega21"
PAGES = ("README.es.md", "GUIA_RAPIDA_COLAB.md", "INSTALACION_RAPIDA.md", "docs/vscode-es.md")

ENGLISH = (
    *("Samples of one step: 64", "Bring checkpoints", "goes on without this command"),
    *("no more of this data are held out", "This server asks for its token", "if it comes"),
    *("The calls behind this page", "taken for anomalies", "times that a command worked on it"),
    *("a fault of omega21's own", "Kind of made samples", '"at its target"'),
)
SPANISH = (
    *(r"\bcorridas?\b", r"\ben su meta\b", r"\bentreno\b", r"Silencio más largo"),
    *(r"se pruebe antes", r"[Rr]enunci\w+ a los mismos bits", r"ningún ajuste", r"\bEnumera\b"),
    *(r"\bencontradas?\b", r"una entrada en la sesión", r"llamadas tras esta página"),
    *(r"\b(?<!omega21 )checkpoints?\b(?!/)", r"(?<!_)\bfeedback\b", r"\buna terminal\b"),
)


def spanish_texts() -> dict[str, str]:
    """Everything in Spanish that a person reads, by where it stands; code and commands left out."""
    with (SOURCE / "locales/es/LC_MESSAGES/omega21.po").open("rb") as file:
        messages = [entry.string for entry in read_po(file) if entry.id]
    page = json.loads((SOURCE / "server/static/texts.json").read_text("utf-8"))["es"]
    texts = {
        "catalogue": "\n".join(t if isinstance(t, str) else "\n".join(t) for t in messages),
        "dashboard": "\n".join(page.values()),
    }
    texts |= {name: (ROOT / name).read_text("utf-8") for name in PAGES}
    return {
        name: re.sub(r"```.*?```|`[^`]*`|\{[^}]*\}", "", t, flags=re.DOTALL)
        for name, t in texts.items()
    }


@pytest.mark.parametrize("pattern", SPANISH)
def test_spanish(pattern: str) -> None:
    found = {
        name: re.findall(f".*{pattern}.*", text, re.IGNORECASE)
        for name, text in spanish_texts().items()
    }
    assert not {name: lines for name, lines in found.items() if lines}


@pytest.mark.parametrize("words", ENGLISH)
def test_english(words: str) -> None:
    sources = [*SOURCE.rglob("*.py"), *SOURCE.rglob("static/*.json"), *ROOT.glob("docs/**/*.md")]
    assert [str(path) for path in sources if words in path.read_text("utf-8")] == []
