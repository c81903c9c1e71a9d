"""ngrok's token: from an environment variable, Colab's secrets, or a prompt.

Imports only the standard library: a notebook reads the token in its own process, since Colab's
secrets are available only there, and passes it to the server in an environment variable.
"""

import getpass
import importlib
import os
import sys
from typing import Any, Final

from omega21.language import _
from omega21.protocol.auth.token_text import check_token

VARIABLE: Final = "NGROK_AUTHTOKEN"


def find_authtoken() -> str | None:
    """Return the token from the environment variable or Colab's secrets, None if there is none."""
    return _checked(os.environ.get(VARIABLE)) or _colab_secret()


def ask_authtoken() -> str | None:
    """Prompt for the token; None if that is impossible, or nothing was entered."""
    if not (sys.stdin.isatty() or in_notebook()):
        return None
    return _checked(getpass.getpass(_("ngrok's authtoken (it is not shown): ")))


def in_notebook() -> bool:
    """Whether this process is the kernel of an interactive notebook."""
    shell: Any = sys.modules.get("IPython")
    shell = shell and shell.get_ipython()
    return getattr(shell, "kernel", None) is not None


def _colab_secret() -> str | None:
    if "google.colab" not in sys.modules:
        return None
    userdata: Any = importlib.import_module("google.colab.userdata")
    missing = (userdata.SecretNotFoundError, userdata.NotebookAccessError)
    try:
        secret: str = userdata.get(VARIABLE)
    except missing:  # there is none, or this notebook has no access to it
        return None
    return _checked(secret)


def _checked(text: str | None) -> str | None:
    """Return a valid token; None for none. Raises ValueError."""
    text = text and text.strip()
    return check_token(text, source=VARIABLE) if text else None
