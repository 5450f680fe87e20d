"""Code of somebody else's that has to end in time."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class TooLongError(BaseException):
    """The time is over. No exception of the ordinary kind, which the code at hand might take for one of its own."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raise `TooLongError` in what runs here for longer.

    Python alone is interrupted, not a library that does not return to it; and only in the main thread, where the
    system has alarms and nobody else has set one.
    """
    usable = hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()
    if seconds <= 0 or not usable or signal.getitimer(signal.ITIMER_REAL)[0]:
        yield
        return

    def late(*_: object) -> None:
        raise TooLongError(f"it took longer than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
