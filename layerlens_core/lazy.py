"""Packages whose names are imported when they are first used, so that importing the package costs nothing."""

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def names_of(homes: Mapping[str, Sequence[str]]) -> list[str]:
    """The names of a package, in the order of its table.

    homes: by module of ``layerlens_core``, the names that it holds.
    """
    return [name for names in homes.values() for name in names]


def imported(home: str, name: str) -> Any:
    """A name of a module that lies above its user, imported when it is used.

    home: module of ``layerlens_core``.
    name: in it.
    """
    return getattr(import_module(f"layerlens_core.{home}"), name)


def lazily(package: str, homes: Mapping[str, Sequence[str]]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """A package's ``__getattr__`` and ``__dir__``.

    package: its name.
    homes: by module of ``layerlens_core``, the names that it holds.
    """
    modules = {name: module for module, names in homes.items() for name in names}

    def get(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = imported(modules[name], name)
        setattr(sys.modules[package], name, value)
        return value

    def listed() -> list[str]:
        return sorted({*vars(sys.modules[package]), *modules})

    return get, listed
