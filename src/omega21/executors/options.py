"""The settings of a device; imports no numpy, since the parent of a server reads them too."""

from dataclasses import dataclass
from pathlib import Path

from omega21.protocol.runs import PrecisionAsked


@dataclass(frozen=True, kw_only=True)
class DeviceOptions:
    """Settings of the device that computes.

    `device` is `auto`, or a torch device such as `cpu`, `cuda`, `cuda:1`, `mps`. `precision`
    applies to runs that ask for `auto`; if it is `auto` itself, the device chooses. `threads` is
    torch's number of threads, by default one for each core. `code_folder` has the sources of runs
    that bring their own, each in a folder named by its digest. A step that takes longer than
    `step_timeout` seconds ends the process that computes it.
    """

    device: str = "auto"
    precision: PrecisionAsked = "auto"
    threads: int | None = None
    code_folder: Path | None = None
    step_timeout: float = 1800.0
