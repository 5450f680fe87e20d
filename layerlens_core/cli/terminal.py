"""What commands show to people while they run, and what they print in the end; of several processes, one shows it.

Results are the only thing on standard output. While a command runs, all else that is written there goes to standard
error: by a plugin, at exit, from another thread, or by a library that is not Python.
"""

import codecs
import json
import os
import shutil
import sys
import textwrap
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from functools import wraps
from typing import IO, Any, TextIO

import click

#: What tables and reasons hold, for terminals that have none of it.
_PLAINLY = str.maketrans({
    "█": "#", "▓": "%", "▒": "=", "░": "-", "·": ".", "–": "-", "−": "-", "…": "...", "≤": "<=", "≥": ">=", "α": "a",
    "×": "x",
})  # fmt: skip
#: Kinds of characters that a terminal would act upon, or that cannot be written: controls, directions, surrogates …
_UNSHOWN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})

_results: TextIO | None = None


def is_first() -> bool:
    """Whether this process writes and prints: it is the first of those that torchrun started, or the only one."""
    return os.environ.get("WORLD_SIZE", "1").strip() == "1" or os.environ.get("RANK", "0").strip() == "0"


def say(text: str) -> None:
    """A line for people, on standard error, so that standard output stays for results.

    On a terminal long ones are broken between words.
    """
    text = shown_lines(text)
    if sys.stderr.isatty():
        width = shutil.get_terminal_size().columns
        text = "\n".join(
            textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False) for line in text.split("\n")
        )
    click.echo(text, err=True)


def result(line: object = "", *, styled: bool = False) -> None:
    """A line of a command's result, on standard output.

    line: its text.
    styled: whether it has colours of `click.style`, and what is not ours in it is `shown` already.
    """
    click.echo(line if styled else shown(str(line)), file=results())


def result_json(text: str) -> None:
    """A result for machines: JSON, spelled so that standard output's encoding has it."""
    try:
        text.encode(results().encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(json.loads(text), indent=2, sort_keys=True)
    click.echo(text.rstrip("\n"), file=results())


def result_document(**fields: object) -> None:
    """A result for machines of a few fields (docs/json.md)."""
    result_json(json.dumps(fields, indent=2, ensure_ascii=False))


def results() -> TextIO:
    """Where results go."""
    return _results or sys.stdout


def shown(text: str) -> str:
    """Text, such as a name that stands in a file, in which nothing acts on a terminal: controls are spelled out."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        _spelled(character) if unicodedata.category(character) in _UNSHOWN else character for character in text
    )


def shown_lines(text: str) -> str:
    """As `shown`, with the ends of lines left in."""
    return "\n".join(map(shown, text.split("\n")))


def apart(function: Callable[..., Any]) -> Callable[..., Any]:
    """A command whose results, and nothing else, are on standard output."""

    @wraps(function)
    def command(*arguments: Any, **options: Any) -> Any:
        with _results_apart():
            return function(*arguments, **options)

    return command


def writes_anything(stream: object) -> None:
    """Let a stream write every character, by another where its encoding lacks it."""
    with suppress(AttributeError, ValueError):
        stream.reconfigure(errors=_ERRORS)  # type: ignore[attr-defined]


@contextmanager
def _results_apart() -> Iterator[None]:
    global _results
    if _results is not None:
        yield
        return
    own = _separate(sys.stdout)
    _results = own or sys.stdout
    writes_anything(_results)
    try:
        with redirect_stdout(sys.stderr):
            yield
        _results.flush()
    except OSError:
        if own is not None:
            with suppress(OSError):
                own.close()  # or what it could not write would be tried once more when the process ends
        raise
    finally:
        _results = None


def _separate(stream: IO[str]) -> TextIO | None:
    """A stream of its own to where standard output goes, which itself goes to standard error until the process ends."""
    try:
        if stream is not sys.__stdout__ or stream.fileno() != 1:
            return None  # somebody has replaced it already, as tests do
        stream.flush()
        own = os.dup(1)
        os.dup2(2, 1)
    except (OSError, ValueError, AttributeError):
        return None
    return open(own, "w", encoding=stream.encoding, errors=_ERRORS, newline=None)


def _spelled(character: str) -> str:
    number = ord(character)
    if number > 0xFFFF:
        return json.dumps(character)[1:-1]
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"


def _substituted(error: UnicodeError) -> tuple[str, int]:
    """For codecs: characters that an encoding lacks, as plain ones or spelled as JSON does."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    plain = lacking.translate(_PLAINLY)
    return plain if plain.isascii() else json.dumps(plain)[1:-1], error.end


_ERRORS = "layerlens"
codecs.register_error(_ERRORS, _substituted)
