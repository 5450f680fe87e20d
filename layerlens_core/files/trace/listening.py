"""Who hears the events: captures of this context, each a structlog logger of its own, and the program's structlog."""

import sys
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from attrs import frozen

from layerlens_core.files.trace.plain import plain


@frozen(eq=False)
class _Kept:
    """What a structlog logger writes to: a list."""

    events: list[dict[str, Any]]

    def info(self, **event: Any) -> None:
        self.events.append(event)


_CAPTURES: ContextVar[tuple[Any, ...]] = ContextVar("layerlens_captures", default=())
_SILENT = ContextVar("layerlens_silent", default=False)


@contextmanager
def captured(run_id: str) -> Iterator[list[dict[str, Any]]]:
    """The events that are emitted inside, with their time, as they come.

    What counts is the context (`contextvars`): other threads, and other tasks that were begun before, have their own.

    run_id: that of each event.
    """
    # Here and not above: it costs a tenth of a second, which programs that capture nothing need not wait for.
    import structlog

    events: list[dict[str, Any]] = []
    # All is given, so that what the program configured for its own log changes nothing here.
    logger = structlog.wrap_logger(
        _Kept(events),
        processors=[_copied, structlog.processors.TimeStamper(fmt="iso", utc=True)],
        wrapper_class=structlog.make_filtering_bound_logger(0),
        context_class=dict,
        cache_logger_on_first_use=False,
    )
    token = _CAPTURES.set((*_CAPTURES.get(), logger.bind(run_id=run_id)))
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
        capture.info(event, **told)
    if (structlog := _structlog()) is not None:
        structlog.get_logger("layerlens").info(event, **told)


def now() -> str:
    """The time in UTC, as events tell it."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _copied(_logger: object, _method: str, event: MutableMapping[str, Any]) -> dict[str, Any]:
    """A processor: a copy, led by the event's name, as what one listener does with its lists is nothing to others."""
    copy: dict[str, Any] = plain(event)
    return {"event": copy.pop("event"), **copy}


def _structlog() -> Any:
    # Where nobody has imported it, nobody has configured it.
    structlog = sys.modules.get("structlog")
    return structlog if structlog is not None and structlog.is_configured() else None
