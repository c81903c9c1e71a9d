"""Stops a server process on a signal, or at the end of its standard input."""

import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType


def stop_on_request(request_stop: Callable[[], None], *, with_stdin: bool) -> None:
    """Call `request_stop` on a signal, or at the end of standard input."""

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        request_stop()

    if threading.current_thread() is threading.main_thread():
        # signal.signal instead of the loop's handler, which Windows does not have.
        signal.signal(signal.SIGINT, on_signal)
        signal.signal(signal.SIGTERM, on_signal)
    if with_stdin:
        threading.Thread(target=_read_to_end, args=(request_stop,), daemon=True).start()


def _read_to_end(then: Callable[[], None]) -> None:
    # Not sys.stdin: a thread that holds its lock when the interpreter ends aborts it.
    with suppress(OSError):
        while os.read(0, 4096):
            pass
    then()
