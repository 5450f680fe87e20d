"""Who hears the events: captures of this context, and the program's own structlog."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from attrs import frozen

from layerlens_core.files.trace.plain import plain


@frozen(eq=False)
class _Capture:
    run_id: str
    events: list[dict[str, Any]]


_CAPTURES: ContextVar[tuple[_Capture, ...]] = ContextVar("layerlens_captures", default=())
_SILENT = ContextVar("layerlens_silent", default=False)


@contextmanager
def captured(run_id: str) -> Iterator[list[dict[str, Any]]]:
    """The events that are emitted inside, with their time, as they come.

    What counts is the context (`contextvars`): other threads, and other tasks that were begun before, have their own.

    run_id: that of each event.
    """
    events: list[dict[str, Any]] = []
    token = _CAPTURES.set((*_CAPTURES.get(), _Capture(run_id, events)))
    try:
        yield events
    finally:
        _CAPTURES.reset(token)


@contextmanager
def silenced() -> Iterator[None]:
    """Emit nothing inside, for decisions that are only tried."""
    token = _SILENT.set(True)
    try:
        yield
    finally:
        _SILENT.reset(token)


def listened_to() -> bool:
    """Whether anybody hears an event."""
    return not _SILENT.get() and (bool(_CAPTURES.get()) or _structlog() is not None)


def tell(event: str, fields: Mapping[str, Any]) -> None:
    """Let everybody who listens hear an event.

    event: its name.
    fields: by name; values become what JSON has (`plain`).
    """
    if not listened_to():
        return
    told = {name: plain(value) for name, value in fields.items()}
    for capture in _CAPTURES.get():
        # A copy for each, as what one does with its lists is nothing to the others.
        capture.events.append({"event": event, **plain(told), "run_id": capture.run_id, "timestamp": now()})
    if (structlog := _structlog()) is not None:
        structlog.get_logger("layerlens").info(event, **told)


def now() -> str:
    """The time in UTC, as events tell it."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _structlog() -> Any:
    # Importing structlog costs a tenth of a second: where nobody has imported it, nobody has configured it.
    structlog = sys.modules.get("structlog")
    return structlog if structlog is not None and structlog.is_configured() else None
