"""The messages of the program: those that the source has, and those that are translated.

template()     every message of the source: what `_()`, `N_()` and `ngettext()` are given, and
the help texts of the commands, which are looked up as they are
read(), write()  a language's catalogue, src/omega21/locales/LANGUAGE/LC_MESSAGES/omega21.po
compiled()     what the program reads of it, omega21.mo beside it: it is committed too, so that
neither an installation nor a checkout has anything to build
"""

import io
from pathlib import Path
from string import Formatter

import typer
from babel.messages import Catalog, Message
from babel.messages.extract import extract_from_dir
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

from omega21.cli.app import app
from omega21.cli.ui.help import help_texts
from omega21.language import DOMAIN, LANGUAGES, LOCALES

ROOT = Path(__file__).parent.parent
TRANSLATED = tuple(language for language in LANGUAGES if language != "en")

_SOURCE = ROOT / "src" / "omega21"
_KEYWORDS = {"_": None, "N_": None, "ngettext": (1, 2)}
_HELP = "src/omega21/cli/ui/help.py"  # where help texts are looked up, whatever file they are in


def template() -> Catalog:
    """Return every message of the source, without translations."""
    found = Catalog(domain=DOMAIN)
    for name, _line, message, comments, context in extract_from_dir(
        _SOURCE, method_map=[("**.py", "python")], keywords=_KEYWORDS, comment_tags=("i18n:",)
    ):
        found.add(
            message,
            locations=[(f"src/omega21/{name}", 0)],
            auto_comments=comments,
            context=context,
        )
    for text in help_texts(typer.main.get_command(app)):
        found.add(text, locations=[(_HELP, 0)])
    return found


def po_path(language: str) -> Path:
    """Return where a language's catalogue is."""
    return LOCALES / language / "LC_MESSAGES" / f"{DOMAIN}.po"


def read(language: str) -> Catalog:
    """Read a language's catalogue."""
    with po_path(language).open("rb") as file:
        return read_po(file, locale=language, domain=DOMAIN)


def updated(language: str) -> Catalog:
    """Return a language's catalogue with the messages that the source has now, and no others.

    New ones are untranslated: nothing is guessed from messages that are alike.
    """
    catalogue = read(language)
    made_at = catalogue.creation_date
    catalogue.update(template(), no_fuzzy_matching=True)
    catalogue.obsolete.clear()
    catalogue.creation_date = made_at  # or each update would differ from the one before
    catalogue.project, catalogue.version = DOMAIN, "1"
    catalogue.last_translator = catalogue.language_team = catalogue.msgid_bugs_address = ""
    return catalogue


def as_po(catalogue: Catalog) -> bytes:
    """Return the text of a catalogue; the same messages make the same text."""
    written = io.BytesIO()
    write_po(written, catalogue, width=100, sort_by_file=True, include_lineno=False)
    return written.getvalue()


def compiled(catalogue: Catalog) -> bytes:
    """Return the catalogue as the program reads it."""
    written = io.BytesIO()
    write_mo(written, catalogue)
    return written.getvalue()


def faults(catalogue: Catalog) -> list[str]:
    """Say of each message what keeps it from being shown: untranslated, or filled in otherwise."""
    return [
        f"{fault}: {message.id!r}"
        for message in catalogue
        if message.id and (fault := _fault(message, catalogue))
    ]


def _fault(message: Message, catalogue: Catalog) -> str | None:
    ids = message.id if isinstance(message.id, tuple | list) else (message.id,)
    forms = message.string if isinstance(message.string, tuple | list) else (message.string,)
    if message.fuzzy:
        return "not sure"
    if not all(forms) or len(forms) != (catalogue.num_plurals if len(ids) > 1 else 1):
        return "not translated"
    filled_in = [placeholders(text) for text in ids]  # the singular may do without the number
    if any(placeholders(form) not in filled_in for form in forms):
        return "other placeholders"
    return None


def placeholders(text: str) -> set[str]:
    """Return the names that a message is filled in with, as they are converted and formatted."""
    fields = Formatter().parse(text)
    return {f"{name}!{how}:{spec}" for _text, name, spec, how in fields if name is not None}
