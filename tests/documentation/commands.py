"""What is checked of a command that does not run here: that what it names is there, and takes these options."""

import re
import tomllib

import click

from documentation.blocks import ROOT
from layerlens_core import cli

_PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def check(words):
    """Raises where a command could not be run anywhere.

    words: of the command.
    """
    program, *rest = words
    if program not in _CHECKS:
        raise AssertionError(f"nothing is known of {program!r}; let the block be `text`, or check it in {__name__}")
    _CHECKS[program](rest)


def _layerlens(words):
    """A subcommand takes these options and arguments."""
    command, path = cli.main, "layerlens"
    while isinstance(command, click.Group) and words:
        found = command.commands.get(words[0])
        if found is None:
            break
        command, path, words = found, f"{path} {words[0]}", words[1:]
    command.make_context(path, [word for word in words if word != "…"], resilient_parsing=False)


def _make(words):
    targets = (ROOT / "Makefile").read_text(encoding="utf-8")
    for word in words:
        assert re.search(rf"^(?:[a-z-]+ )*{re.escape(word)}(?: [a-z-]+)*:", targets, re.MULTILINE), word


def _pip(words):
    assert words[0] == "install"
    for word in words[1:]:
        extra = re.fullmatch(r"(?:\.|layerlens-core)\[([a-z,]+)\]", word)
        if extra:
            assert set(extra[1].split(",")) <= set(_PROJECT["optional-dependencies"]), word
        elif word.startswith("./"):
            assert (ROOT / word).is_dir(), word


def _python(words):
    """A script is there, and it or its folder knows these options."""
    if words[0] == "-m":
        module, *words = words[1:]
        return _layerlens(words) if module == "layerlens_core" else None
    script = ROOT / words[0]
    assert script.is_file(), words[0]
    known = "".join(path.read_text(encoding="utf-8") for path in [script, *script.parent.glob("*.py")])
    for word in words[1:]:
        if word.startswith("--"):
            name = re.escape(word.partition("=")[0].removeprefix("--"))
            assert re.search(rf"[\"'](?:--)?{name}[\"']", known), f"{words[0]} knows no {word}"
    return None


def _torchrun(words):
    while words and words[0] != "-m":
        words = words[2 if words[0] == "--nproc-per-node" else 1 :]
    _python(words)


def _pytest(words):
    for word in words:
        assert "/" not in word or (ROOT / word).exists(), word


_CHECKS = {
    "layerlens": _layerlens,
    "make": _make,
    "pip": _pip,
    "pytest": _pytest,
    "python": _python,
    "torchrun": _torchrun,
    "cd": lambda words: None,
}
