"""The states of a run, as a person reads them."""

from typing import Final

from omega21.language import N_, _

_WORDS: Final[dict[str, str]] = {
    "idle": N_("idle"),
    "training": N_("training"),
    "waiting": N_("waiting for samples"),
    "paused": N_("paused"),
    "diverged": N_("diverged"),
    "failed": N_("failed"),
}


def in_words(state: str) -> str:
    """Return a state's name in the language that is spoken; one of a newer server, as it is."""
    return _(_WORDS.get(state, state))
