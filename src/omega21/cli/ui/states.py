"""The states of a run, for people."""

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


def state_label(state: str) -> str:
    """Return a state's translated name; an unknown state, of a newer server, as it is."""
    return _(_WORDS.get(state, state))
