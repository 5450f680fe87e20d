"""A labelled corpus that is always there: docstrings of the standard library, labelled by package."""

import ast
import random
import sysconfig
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from layerlens_core.errors import DataError

FEWEST_WORDS = 5
_LEFT_OUT = (
    "test",
    "tests",
    "idlelib",
    "site-packages",
    "__pycache__",
    "lib2to3",
    "pydoc_data",
    "turtledemo",
)


def standard_library_docstrings(
    *, packages: int = 6, each: int = 220, seed: int = 0
) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Training and held-out rows of ``text`` and ``label``, a quarter of each package held out.

    Sources are parsed, not imported. A docstring that occurs more than once is used once, so that none is in both
    parts.

    packages: how many, those with the most docstrings.
    each: docstrings of one package at most.
    seed: of the draw.
    """
    root = Path(sysconfig.get_path("stdlib"))
    by_package: dict[str, list[str]] = {}
    seen: set[str] = set()
    for folder in sorted(root.iterdir()):
        if folder.name in _LEFT_OUT or not (folder / "__init__.py").is_file():
            continue
        for text in _docstrings(folder):
            if text not in seen:
                seen.add(text)
                by_package.setdefault(folder.name, []).append(text)
    largest = sorted(by_package, key=lambda name: (-len(by_package[name]), name))[:packages]
    if len(largest) < 2:
        raise DataError(f"the standard library at {root} has no sources to read docstrings from")
    draw = random.Random(seed)
    training: list[dict[str, str]] = []
    held_out: list[dict[str, str]] = []
    for name in sorted(largest):
        texts = draw.sample(by_package[name], min(each, len(by_package[name])))
        quarter = len(texts) // 4
        held_out += [{"text": text, "label": name} for text in texts[:quarter]]
        training += [{"text": text, "label": name} for text in texts[quarter:]]
    draw.shuffle(training)
    draw.shuffle(held_out)
    return training, held_out


def majority_share(rows: list[dict[str, str]]) -> float:
    """The accuracy of always answering the most frequent label."""
    return Counter(row["label"] for row in rows).most_common(1)[0][1] / len(rows)


def _docstrings(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*.py")):
        if any(part in _LEFT_OUT for part in path.relative_to(folder).parts):
            continue
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError, OSError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                text = " ".join((ast.get_docstring(node) or "").split())
                if len(text.split()) >= FEWEST_WORDS:
                    yield text
