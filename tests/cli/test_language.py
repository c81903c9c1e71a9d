"""The command line in Spanish: help, errors, tables; and what programs read, the same in both."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from omega21.cli.app import app, run
from omega21.cli.ui.help import help_texts, translate_help
from omega21.language import choose_language, speaking
from omega21.protocol.errors import error_classes
from tests.cli.conftest import Omega21

SPANISH = {"LANGUAGE": "", "LANG": "es_ES.UTF-8"}


@pytest.fixture
def spanish_command() -> Iterator[Any]:
    command = typer.main.get_command(app)
    with speaking("es"):
        translate_help(command)
        yield command


@pytest.fixture
def english_afterwards() -> Iterator[None]:
    yield
    choose_language("en")


def helps(command: Any, name: str, parent: Any = None) -> Iterator[tuple[Any, str]]:
    context = command.make_context(name, [], parent=parent, resilient_parsing=True)
    yield context, command.get_help(context)
    for child_name, child in getattr(command, "commands", {}).items():
        yield from helps(child, child_name, context)


def test_each_help_text_is_spanish(spanish_command: Any) -> None:
    english = set(help_texts(typer.main.get_command(app)))
    same = {"URL", "TOKEN", "N", "P"}  # words that are spelled alike
    assert set(help_texts(spanish_command)) & english == same


def test_typer_s_own_words_alone_are_left_in_english(spanish_command: Any) -> None:
    shown = dict(helps(spanish_command, "omega21"))
    assert len(shown) > 20
    for context, text in shown.items():
        assert text.startswith("Usage: "), context.command_path
        assert "Arguments:" not in text
        if context.command.params and context.parent is not None:
            assert {"Argumentos:", "Opciones:"} & {*text.splitlines()}, context.command_path


@pytest.mark.parametrize("language", ["en", "es"])
def test_no_summary_is_cut_short(language: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    command = typer.main.get_command(app)
    with speaking(language):
        translate_help(command)
        for _context, text in helps(command, "omega21"):
            lists = re.split(r"^Commands:$", text, flags=re.MULTILINE)[1:]
            assert not [line for line in "".join(lists).splitlines() if line.endswith("...")]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--nope", "No existe la opción --nope; consulta omega21 --help"),
        (
            "train --smples 3",
            "No existe la opción --smples (quizá: --preset, --samples, --samples-type)",
        ),
        ("train --samples x", "tiene que ser un número entero"),
        ("train --samples 0", "Valor no válido para '--samples' / '--muestras': tiene que ser 1"),
        ("train --anomalias 200", "tiene que ser 100 o menos"),
        ("train --anomalias x", "tiene que ser un número, y el texto no lo es"),
        ("train --kind foo", "'foo' no es uno de 'simple', 'temporal', 'neuronal'"),
        ("train --samples", "La opción '--samples' necesita un valor"),
        ("train --json=3", "La opción '--json' no admite ningún valor"),
        ("feedback", "Falta la opción '--adjustments' / '--ajustes'"),
        ("status a b", "Sobran argumentos (b)"),
        ("tran", "No existe la orden 'tran'. ¿Querías decir 'train'?"),
        ("frobnicate", "No existe la orden 'frobnicate'"),
        ("runs show", "Falta el argumento 'EJECUCIÓN'"),
        ("runs --json list", "--json: va detrás de 'omega21 runs list'"),
    ],
)
@pytest.mark.usefixtures("english_afterwards")
def test_what_is_wrong_with_a_command_line_is_said_in_spanish(
    arguments: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["--lang=es", *arguments.split()]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert said in error
    assert "; consulta omega21" in error


def test_another_language_is_refused_with_those_there_are(
    omega21: Omega21,
) -> None:
    refused = omega21("--lang", "fr", "runs")
    assert refused.status == 2
    assert "'en', 'es'" in refused.stderr


def test_the_locale_decides_and_the_option_overrides_it(omega21: Omega21) -> None:
    for first, environment in (([], SPANISH), (["--lang", "es"], {"LANG": "en_US.UTF-8"})):
        shown = omega21(*first, "train", "--help", **environment)
        assert "\nArgumentos:\n" in shown.stdout
        assert "--run NOMBRE" in shown.stdout
    english = omega21("--lang", "en", "train", "--help", **SPANISH)
    assert english.stdout == omega21("train", "--help").stdout
    assert english.stdout.startswith("Usage: ")


def test_an_error_is_spanish_and_its_status_the_same(omega21: Omega21) -> None:
    english = omega21("runs", "show", "nothing")
    for spoken in (
        omega21("runs", "show", "nothing", **SPANISH),
        omega21("--lang", "es", "runs", "show", "nothing"),
    ):
        assert spoken.status == english.status == 21
        assert "no hay ninguna ejecución 'nothing' en esta máquina" in spoken.stderr
        assert "da su dirección con --url" in spoken.stderr
    assert "there is no run 'nothing' on this machine" in english.stderr


def test_an_error_of_the_server_comes_in_the_language_of_the_command(on_server: Omega21) -> None:
    english = on_server("status", "--run", "nothing")
    spanish = on_server("--lang", "es", "status", "--run", "nothing")
    assert spanish.status == english.status == 21
    assert "no run 'nothing' on this server; list the runs" in english.stderr
    assert (
        "no hay ninguna ejecución 'nothing' en este servidor; consulta las ejecuciones"
        in spanish.stderr
    )


def test_a_table_has_spanish_words_and_numbers(omega21: Omega21) -> None:
    arguments = ("made.npz", "--samples", "2000", "--statistics")
    english = omega21("generate", *arguments).stdout.splitlines()
    spanish = omega21("generate", *arguments, **SPANISH).stdout.splitlines()
    assert english[1] == "samples    2,000 (simple, seed 42, from 0)"
    assert spanish[1] == "muestras   2.000 (simple, semilla 42, desde la 0)"
    assert re.fullmatch(r"media      -0,\d{4}, desviación típica 0,\d{4}", spanish[5])
    assert len(spanish) == len(english)


def test_what_programs_read_is_the_same_in_both(omega21: Omega21, on_server: Omega21) -> None:
    for command in (
        ("generate", "made.npz", "--samples", "20", "--statistics", "--json"),
        ("runs", "--json"),
    ):
        spoken = [omega21("--lang", language, *command) for language in ("en", "es")]
        assert spoken[0].stdout == spoken[1].stdout
        json.loads(spoken[0].stdout)
    looked = [
        on_server("--lang", language, "doctor", "--json").figures for language in ("en", "es")
    ]
    told = [{c["name"]: (c["found"], c["advice"]) for c in one["checks"]} for one in looked]
    for name in ("python", "packages", "token", "memory", "quota"):
        assert told[0][name] == told[1][name]
    assert told[1]["token"][0] == "accepted"
    states = [
        on_server("--lang", language, "runs", "list", "--json").figures for language in ("en", "es")
    ]
    assert states[0] == states[1]


def test_codes_and_statuses_have_no_language() -> None:
    english = [(cls.code, cls.http_status, cls.exit_code) for cls in error_classes()]
    with speaking("es"):
        assert [(cls.code, cls.http_status, cls.exit_code) for cls in error_classes()] == english
