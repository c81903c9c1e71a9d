"""The states of a run, as a person reads them."""

from typing import TYPE_CHECKING, Final

from omega21.language import N_, _

if TYPE_CHECKING:
    from omega21.protocol.runs import RunStatus

_WORDS: Final["dict[RunStatus, str]"] = {
    "idle": N_("idle"),
    "training": N_("training"),
    "waiting": N_("waiting for samples"),
    "paused": N_("paused"),
    "diverged": N_("diverged"),
    "failed": N_("failed"),
}


def in_words(state: "RunStatus") -> str:
    """Return a state's name in the language that is spoken."""
    return _(_WORDS[state])
