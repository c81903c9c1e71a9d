"""Which language is spoken, and to whom."""

import logging
import pickle
import threading
import time
from collections.abc import Iterator
from contextvars import copy_context

import pytest

from omega21.language import (
    _,
    accepted_language,
    choose_language,
    current_language,
    current_locale,
    ngettext,
    speaking,
)
from omega21.language.borrowed import translated
from omega21.language.figures import count, decimal, moment, number, percent
from omega21.logs import JsonLines, PlainLines
from omega21.protocol.errors import OmegaError, UnknownRun, to_problem

VARIABLES = ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG")


@pytest.fixture(autouse=True)
def no_locale(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    yield
    choose_language("en")


@pytest.mark.parametrize(
    ("locale", "language"),
    [
        ({}, "en"),
        ({"LANG": "es_ES.UTF-8"}, "es"),
        ({"LANG": "es"}, "es"),
        ({"LANG": "ES_mx@euro"}, "es"),
        ({"LANG": "C.UTF-8"}, "en"),
        ({"LANG": "de_DE.UTF-8"}, "en"),
        ({"LANG": "en_GB.UTF-8", "LC_MESSAGES": "es_ES.UTF-8"}, "es"),
        ({"LC_MESSAGES": "es_ES.UTF-8", "LC_ALL": "en_US.UTF-8"}, "en"),
        ({"LC_ALL": "en_US.UTF-8", "LANGUAGE": "es:en"}, "es"),
        ({"LANG": "es_ES.UTF-8", "LANGUAGE": ""}, "es"),
    ],
)
def test_the_locale_decides(
    locale: dict[str, str], language: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in locale.items():
        monkeypatch.setenv(name, value)
    assert choose_language() == current_language() == language


def test_what_is_asked_for_goes_before_the_locale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANG", "es_ES.UTF-8")
    assert choose_language("en") == "en"
    assert _("nothing was done") == "nothing was done"
    assert choose_language("es") == "es"
    assert _("nothing was done") == "no se ha hecho nada"


def test_nothing_is_chosen_by_importing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANG", "es_ES.UTF-8")
    assert current_language() == "en"


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("", "en"),
        ("es", "es"),
        ("es-419, es;q=0.9, en;q=0.8", "es"),
        ("en-GB, es;q=0.9", "en"),
        ("en;q=0.2, es;q=0.7", "es"),
        ("fr, de;q=0.9", "en"),
        ("fr, es;q=0.5", "es"),
        ("*", "en"),
        ("es;q=0", "en"),
        ("es;q=high", "en"),
        (";;,=,q", "en"),
    ],
)
def test_a_caller_says_which_language_it_reads(header: str, language: str) -> None:
    assert accepted_language(header) == language


def test_one_context_speaks_without_the_others() -> None:
    heard: list[str] = []

    def hear() -> None:
        heard.append(_("nothing was done"))

    with speaking("es"):
        context = copy_context()
        beside = threading.Thread(target=hear)
        beside.start()
        beside.join()
        on_behalf = threading.Thread(target=context.run, args=(hear,))
        on_behalf.start()
        on_behalf.join()
        with speaking("en"):
            hear()
        hear()
    hear()

    english, spanish = "nothing was done", "no se ha hecho nada"
    assert heard == [english, spanish, english, spanish, english]


def test_a_number_decides_which_form_is_used() -> None:
    with speaking("es"):
        forms = [ngettext("{count} shard", "{count} shards", n).format(count=n) for n in (0, 1, 2)]
    assert forms == ["0 bloques", "1 bloque", "2 bloques"]


def test_no_message_is_not_the_catalogue_s_header() -> None:
    with speaking("es"):
        assert _("") == ""


@pytest.mark.parametrize(
    ("locale", "figures"),
    [
        ("en_US", ("0.6389", "1234.50", "11,900,000", "11,900,000.5", "12%", "12.3%")),
        ("es_ES", ("0,6389", "1234,50", "11.900.000", "11.900.000,5", "12\xa0%", "12,3\xa0%")),
        ("es_MX", ("0.6389", "1234.50", "11,900,000", "11,900,000.5", "12%", "12.3%")),
        ("es_XX", ("0,6389", "1234,50", "11.900.000", "11.900.000,5", "12\xa0%", "12,3\xa0%")),
    ],
)
def test_numbers_are_written_as_in_the_country(
    locale: str, figures: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LANG", f"{locale}.UTF-8")
    choose_language()
    assert figures == (
        decimal(0.63888, 4),
        decimal(1234.5, 2),
        count(11_900_000),
        number(11_900_000.5, 1),
        percent(0.1234),
        percent(0.1234, 1),
    )


def test_a_locale_of_another_language_does_not_write_the_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    choose_language("es")
    assert current_locale() == "es"
    choose_language()
    assert (current_locale(), decimal(0.5, 1)) == ("en", "0.5")


def test_what_is_no_number_is_written_as_it_is() -> None:
    assert decimal(float("nan"), 4) == "nan"


def test_a_moment_is_in_this_machine_s_time() -> None:
    seconds = 1_000_000_000.0
    written = moment(seconds)
    assert time.mktime(time.strptime(written, "%Y-%m-%d %H:%M:%S")) == seconds
    with speaking("es"):
        assert moment(seconds) == written


def test_a_library_s_sentence_is_known_by_its_shape() -> None:
    sentence = "Invalid value for '--kind': Value error, 'a' is not one of 'b', 'c'."
    assert translated(sentence) == sentence
    with speaking("es"):
        assert translated(sentence) == "Valor no válido para '--kind': 'a' no es uno de 'b', 'c'."
        assert translated("Input should be 'a', 'b' or 'c'") == "tiene que ser 'a', 'b' o 'c'"
        assert translated("nobody knows this one") == "nobody knows this one"


def test_what_was_said_can_be_said_again_in_another_language() -> None:
    inner = _("the batch is empty")
    message = _("{path} cannot be read: {reason}").format(path="a", reason=inner)
    counted = ngettext("{count} shard", "{count} shards", 2).format(count=2)
    copied = pickle.loads(pickle.dumps(message))
    assert (message, counted) == ("a cannot be read: the batch is empty", "2 shards")
    with speaking("es"):
        assert str(message) == str(copied) == "no se puede leer a: el lote está vacío"
        assert str(counted) == "2 bloques"
        assert message == "a cannot be read: the batch is empty"  # as it was made


def test_an_error_speaks_the_language_of_whoever_reads_it() -> None:
    caught: list[OmegaError] = []

    def fail() -> None:
        caught.append(UnknownRun(_("there is no run on this machine")))

    with speaking("es"):
        beside = threading.Thread(target=fail)
        beside.start()
        beside.join()
        (error,) = caught
        assert str(error).startswith(
            "no hay ninguna ejecución en esta máquina; consulta las ejecuciones"
        )
        assert to_problem(error).detail == str(error)
    assert str(error).startswith("there is no run on this machine; list the runs")


@pytest.mark.parametrize(
    "formatter", [JsonLines(), PlainLines()], ids=lambda each: type(each).__name__
)
def test_a_log_is_english_whoever_is_spoken_to(formatter: logging.Formatter) -> None:
    with speaking("es"):
        error = UnknownRun(_("there is no run on this machine"))
        record = logging.LogRecord(
            "a", logging.ERROR, "", 0, "%s", (error,), (UnknownRun, error, None)
        )
        line = formatter.format(record)
    assert "there is no run on this machine; list the runs" in line
    assert "ejecución" not in line
