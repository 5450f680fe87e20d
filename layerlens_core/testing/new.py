"""Begin a plugin: a whole distribution from the files in ``templates``, which passes its own tests at once."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import get_args

from layerlens_core.errors import FileError, PluginError, nearest
from layerlens_core.plugin.providers import Kind
from layerlens_core.plugin.registry import default

TEMPLATES = Path(__file__).parent / "templates"
#: What stands for the name in templates, and in names of modules.
NAME, MODULE = "example-name", "example_name"
#: Characters of a name at most, with which no line of a template grows too long.
LONGEST = 40
#: Files that all kinds share.
_SHARED = ("README.md", "gitignore", "pyproject.toml", "workflow.yml")
#: Where files of a template belong that do not belong to the package.
_PLACES = {
    "gitignore": ".gitignore",
    "workflow.yml": ".github/workflows/ci.yml",
    "plugin.py": f"src/layerlens_plugin_{MODULE}/__init__.py",
    "test_contract.py": "tests/test_contract.py",
}
_RUN = "layerlens plan MODEL --data FILE --out RUN"
#: By kind, how what it gives is used.
_USE: Mapping[str, str] = {
    "metric": f"{_RUN} --metric {NAME}=1",
    "aggregator": f"{_RUN} --metric fisher=0.5 --metric gora=0.5 --aggregator {NAME}",
    "strategy": f"{_RUN} --budget params=r=8 --strategy {NAME}",
    "method": f"{_RUN} --methods none,{NAME}",
    "exporter": f"layerlens export RUN --to {NAME} --model MODEL --out DIR",
}
#: By kind, what its modules hold.
_FILES: Mapping[str, Mapping[str, str]] = {
    "metric": {"score.py": "the score of one module"},
    "aggregator": {"combine.py": "the rule that makes one utility of all scores"},
    "strategy": {"select.py": "the rule that decides"},
    "method": {"places.py": "where it attaches and what it costs", "side.py": "what it attaches"},
    "exporter": {"export.py": "what writes the files"},
}


def new_plugin(name: str, kind: Kind, out: str | Path = ".") -> Path:
    """Write the distribution ``layerlens-plugin-NAME``, whole or not at all.

    name: of lower-case letters, digits and dashes; that of the provider, the distribution and the entry point.
    kind: of the provider: metric, aggregator, strategy, method or exporter.
    out: the folder in which its directory is made; it may be missing.

    Returns the directory. Raises `PluginError` for a name that cannot be one or is taken by a provider of this kind,
    and for an unknown kind, and `FileError` where the directory is there already or cannot be made.
    """
    _check(name, kind)
    directory = Path(out) / f"layerlens-plugin-{name}"
    if directory.is_symlink() or directory.exists():
        raise FileError(f"{directory} is there already, and nothing in it was changed; choose another name or --out")
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
        try:
            for path, text in _files(name, kind):
                (staging / path).parent.mkdir(parents=True, exist_ok=True)
                (staging / path).write_text(text, encoding="utf-8", newline="\n")
            staging.chmod(0o777 & ~_umask())
            os.rename(staging, directory)  # which fails where somebody put files there meanwhile
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
    except OSError as error:
        raise FileError(f"{directory} cannot be made: {error.strerror}") from None
    return directory


def _check(name: str, kind: Kind) -> None:
    """Raises `PluginError` for a name or a kind that cannot be."""
    kinds = get_args(Kind)
    if kind not in kinds:
        raise PluginError(f"no provider is of the kind {kind!r}; there are: {', '.join(kinds)}.{nearest(kind, kinds)}")
    if re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) is None or len(name) > LONGEST:
        normal = re.sub(r"[-_.\s]+", "-", name.strip().lower()).removeprefix("layerlens-plugin-").strip("-")
        usable = re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", normal) and len(normal) <= LONGEST
        raise PluginError(
            f"a plugin cannot be named {name[:LONGEST]!r}: names are of lower-case letters, digits and single dashes, "
            f"begin with a letter, and have at most {LONGEST} characters" + (f", such as {normal!r}" if usable else "")
        )
    if name.startswith("layerlens-plugin-"):
        raise PluginError(f"leave out the beginning of {name!r}, which every plugin has: {name[17:]!r}")
    if name in default().names(kind):
        raise PluginError(f"{kind} {name!r} is provided by {default().plugin_of(kind, name)}; choose another name")


def _files(name: str, kind: str) -> Iterator[tuple[str, str]]:
    """Every file of the distribution: its path there, and its text."""
    package = f"src/layerlens_plugin_{MODULE}"
    for source in [*(TEMPLATES / each for each in _SHARED), *sorted((TEMPLATES / kind).glob("*.py"))]:
        inside = source.parent != TEMPLATES and source.name not in _PLACES
        path = _PLACES.get(source.name, f"{package}/{source.name}" if inside else source.name)
        text = source.read_text(encoding="utf-8")
        if source.name in ("README.md", "pyproject.toml"):
            text = _filled(text, kind)
        yield _renamed(path, name), _renamed(text, name)
    yield _renamed(f"{package}/py.typed", name), ""


def _filled(text: str, kind: str) -> str:
    """The text of a file that all kinds share, with what differs between them."""
    files = "\n".join(f"| `src/layerlens_plugin_{MODULE}/{name}` | {what} |" for name, what in _FILES[kind].items())
    article = "An" if kind[0] in "ae" else "A"
    return text.replace("A KIND", f"{article} {kind}").replace("USE\n", f"{_USE[kind]}\n").replace("FILES", files)


def _renamed(text: str, name: str) -> str:
    return text.replace(MODULE, name.replace("-", "_")).replace(NAME, name)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
