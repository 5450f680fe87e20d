"""JSON as it is read anywhere: whatever cannot be is a `ValueError`; and as it is written, whatever a name holds."""

import json
from typing import Any

#: Characters at which some programs break lines, though JSON does not; only texts in JSON can hold them.
_BREAKS = {ord(character): f"\\u{ord(character):04x}" for character in "\x7f\x85\u2028\u2029"}


def parse(text: str | bytes, **options: Any) -> Any:
    """What a text says. Raises ``ValueError`` where it is no JSON, is nested too deeply, or has too long a number.

    text: to be read.
    options: of `json.loads`.
    """
    try:
        return json.loads(text, **options)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def parse_strict(text: str | bytes) -> Any:
    """As `parse`; a name that stands twice in one object is a ``ValueError`` too."""
    return parse(text, object_pairs_hook=_once)


def writable(text: str) -> str:
    """JSON as text that every encoding of Unicode has, in which lines end at ``\\n`` alone.

    Names of files may hold bytes that are no text, which Python reads as lone surrogates; JSON can spell them.
    """
    return text.translate(_BREAKS).encode("utf-8", "backslashreplace").decode("utf-8")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} stands twice in one object")
    return values
