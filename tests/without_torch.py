"""A selection of tests for pytest's ``-p``: those that need no torch, run where torch cannot be imported.

Modules that import torch, or what stands on it, are skipped, and folders whose conftest does are left out whole. So are
tests that carry the marker ``torch``, since they import it as they run, that use a fixture which makes models, and
``slow`` ones. Any other test that tries to import torch fails. Processes that a test starts are not held to it.
"""

import ast
import sys
from importlib.abc import MetaPathFinder
from pathlib import Path

import pytest

#: torch, and libraries that import it.
OUT_OF_REACH = ("accelerate", "peft", "torch", "transformers", "trl")
#: What tests share that stands on them.
SHARED = ("adaptation", "families", "mutation", "profiling", "zoo")
#: Fixtures that make models.
FIXTURES = frozenset({"models_dir"})


class Blocker(MetaPathFinder):
    """Finds nothing, and says so where one of `OUT_OF_REACH` is asked for: by a skip where modules are collected."""

    def __init__(self) -> None:
        self.collecting = True

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> None:
        """See ``importlib.abc.MetaPathFinder``."""
        if name.partition(".")[0] not in OUT_OF_REACH:
            return
        if self.collecting:
            pytest.skip(f"needs {name}", allow_module_level=True)
        raise ModuleNotFoundError(f"{name} is out of reach here; does the test lack the marker `torch`?", name=name)


_BLOCKER = Blocker()


def pytest_configure() -> None:
    """Before any test module is imported."""
    there = sorted({name.partition(".")[0] for name in sys.modules} & set(OUT_OF_REACH))
    if there:
        raise pytest.UsageError(f"imported before any test: {', '.join(there)}")
    sys.meta_path.insert(0, _BLOCKER)


def pytest_unconfigure() -> None:
    """Afterwards all is as it was."""
    if _BLOCKER in sys.meta_path:
        sys.meta_path.remove(_BLOCKER)


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out a folder whose conftest imports what is out of reach: pytest imports those outside of any report."""
    conftest = collection_path / "conftest.py"
    if not conftest.is_file():
        return None
    imported = set()
    for statement in ast.parse(conftest.read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in statement.names}
        elif isinstance(statement, ast.ImportFrom):
            imported.add((statement.module or "").partition(".")[0])
    return True if imported & {*OUT_OF_REACH, *SHARED} else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what is marked, and from here on let imports fail."""
    needing = [item for item in items if _needs_torch(item) or item.get_closest_marker("slow")]
    if needing:
        config.hook.pytest_deselected(items=needing)
        items[:] = [item for item in items if item not in needing]
    _BLOCKER.collecting = False


def _needs_torch(item: pytest.Item) -> bool:
    """Whether a test is marked so, or uses a fixture that makes models, through others too."""
    return item.get_closest_marker("torch") is not None or bool(FIXTURES & set(getattr(item, "fixturenames", ())))
