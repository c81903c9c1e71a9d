"""The consent to users' source in a notebook, and a model of its own."""

from pathlib import Path

import pytest

from omega21.data.code.bundle import prepare_code
from omega21.server.notebook.cell import model_name, prepare
from omega21.server.notebook.problem import CannotServe
from tests.servers import start_server


@pytest.mark.parametrize(
    ("given", "variable", "words"),
    [
        (False, "", []),
        (True, "", ["--allow-code", "any"]),
        (False, "1", ["--allow-code", "any"]),
        ("sha256:" + "a" * 64, "", ["--allow-code", "sha256:" + "a" * 64]),
    ],
)
def test_the_box_is_the_consent(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    given: bool | str,
    variable: str,
    words: list[str],
) -> None:
    monkeypatch.setenv("OMEGA21_ALLOW_CODE", variable)
    settings = prepare(
        tunnel="none", data_dir=str(tmp_path / "data"), allow_code=given, language="en"
    )
    found = settings.arguments()
    assert found[found.index("--allow-code") :] == words if words else "--allow-code" not in found
    assert ("has a shell on this machine" in capsys.readouterr().out) == bool(words)


def test_a_wrong_digest_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(CannotServe, match="sha256:DIGEST"):
        prepare(tunnel="none", data_dir=str(tmp_path), allow_code="sha256:12", language="en")


def test_a_function_of_a_file_is_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_net_of_a_notebook.py").write_text("def build(schema): ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    from own_net_of_a_notebook import build  # type: ignore[import-not-found]

    name = model_name(build)
    assert prepare_code(name).entry == "own_net_of_a_notebook:build"
    typed: dict[str, object] = {}
    exec("def build(schema): ...", typed)
    for other in (typed["build"], lambda schema: schema, len):
        with pytest.raises(CannotServe, match="is not a function of a file"):
            model_name(other)  # type: ignore[arg-type]


def test_a_wrong_consent_ends_the_start(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="sha256:DIGEST"):
        start_server(tmp_path / "data", "--allow-code", "sha256:12")
