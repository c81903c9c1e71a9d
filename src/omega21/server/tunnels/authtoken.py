"""Where ngrok's token comes from: the environment, Colab's secrets, or a prompt.

Imports nothing that has to be installed: a notebook asks for the token in its own process, since
only there do Colab's secrets answer, and hands it to the server by the environment.
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
    """Return the token of the environment or of Colab's secrets, None where there is none."""
    return _checked(os.environ.get(VARIABLE)) or _colab_secret()


def ask_authtoken() -> str | None:
    """Ask a person for the token; None where nobody can be asked, or they gave none."""
    if not (sys.stdin.isatty() or in_notebook()):
        return None
    return _checked(getpass.getpass(_("ngrok's authtoken (it is not shown): ")))


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook, with somebody before it."""
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
    except missing:  # there is none, or this notebook was not given access to it
        return None
    return _checked(secret)


def _checked(text: str | None) -> str | None:
    """Return a token as it may be sent; None for none. Raises ValueError."""
    text = text and text.strip()
    return check_token(text, source=VARIABLE) if text else None
