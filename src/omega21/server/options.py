"""The settings of one server, for its parent and its worker process."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from omega21.engine.options import EngineOptions
from omega21.protocol.auth.token import parse_token
from omega21.protocol.link.tunnels import TunnelAsked
from omega21.protocol.tasks.consent import Consent

LOG_LEVELS: Final = ("debug", "info", "warning", "error")

ENGINE_OPTIONS: Final = (
    *("device", "precision", "threads", "step_timeout", "disk_limit", "max_runs"),
    *("checkpoint_seconds", "checkpoint_steps", "mirror"),
)
"""Settings of the engine that are command-line options of the same names."""


def read_consent(given: Sequence[str] | None) -> Consent:
    """Return which source is allowed by --allow-code and OMEGA21_ALLOW_CODE. Raises InvalidCode."""
    return Consent.of(
        [*(given or []), os.environ.get("OMEGA21_ALLOW_CODE", "")],
        source="--allow-code (OMEGA21_ALLOW_CODE)",
    )


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """Settings of one server. Port 0 chooses a free one.

    Behind a tunnel there is always a token: without `token`, the one stored in the data folder.
    `model` is source that the server offers, as `package.module:build`; its digest is allowed.
    `cloudflared` is the path or the URL of that program, if it is not on PATH.
    """

    data_dir: Path
    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = field(default=None, repr=False)
    engine: EngineOptions = field(default_factory=EngineOptions)
    tunnel: TunnelAsked = "none"
    cloudflared: str | None = None
    log_level: str = "info"
    stop_with_stdin: bool = False
    model: str | None = None

    def __post_init__(self) -> None:
        """Check the token. Raises InvalidRequest."""
        if self.token is not None:
            parse_token(self.token, source="--token (OMEGA21_TOKEN)")

    def child_arguments(self) -> list[str]:
        """Return these settings as command-line options for a child, without the token."""
        options = {
            "host": self.host,
            "data_dir": self.data_dir,
            "tunnel": self.tunnel,
            "log_level": self.log_level,
            **{name: getattr(self.engine, name) for name in ENGINE_OPTIONS},
        }
        engine = self.engine
        words = [
            word
            for name, value in options.items()
            if value is not None
            for word in (f"--{name.replace('_', '-')}", str(value))
        ]
        words += [word for text in engine.allow_code.texts() for word in ("--allow-code", text)]
        words += ["--allow-install"] * engine.allow_install
        return words + [
            word for entry, sha256 in engine.offers for word in ("--offer", f"{entry}={sha256}")
        ]
