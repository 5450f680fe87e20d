"""Packages whose names are imported when they are first used: each name has a home, and type checkers see the same."""

import ast
import sys
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest

import layerlens_core
from layerlens_core.lazy import lazily, names_of

PACKAGES = ("layerlens_core", "layerlens_core.plugin")
NAMES = [
    pytest.param(package, name, id=f"{package}.{name}")
    for package in PACKAGES
    for name in names_of(import_module(package)._HOMES)
]


def for_type_checkers(package):
    """What a package imports under ``TYPE_CHECKING``: the home of each name."""
    tree = ast.parse(Path(import_module(package).__file__).read_text(encoding="utf-8"))
    (block,) = [each for each in tree.body if isinstance(each, ast.If) and ast.unparse(each.test) == "TYPE_CHECKING"]
    found = {}
    for statement in block.body:
        assert isinstance(statement, ast.ImportFrom)
        for alias in statement.names:
            assert alias.asname == alias.name, "only `import x as x` tells a type checker that x is meant to be found"
            assert alias.name not in found
            found[alias.name] = statement.module
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_type_checkers_see_the_names_of_the_table_where_it_has_them(package):
    homes = import_module(package)._HOMES
    table = {name: f"layerlens_core.{home}" for home, names in homes.items() for name in names}
    assert for_type_checkers(package) == table


@pytest.mark.parametrize(("package", "name"), NAMES)
def test_every_name_is_defined_in_its_home(package, name):
    """Read from the source, so that nothing heavy has to be imported for it."""
    home = find_spec(for_type_checkers(package)[name])
    assert name in defined(Path(home.origin))


def defined(source):
    """The names that a module defines at its top level."""
    names = set()
    for statement in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            names.add(statement.name)
        elif isinstance(statement, ast.Assign):
            names |= {ast.unparse(target) for target in statement.targets}
    return names


@pytest.mark.torch
@pytest.mark.parametrize(("package", "name"), NAMES)
def test_every_name_is_that_of_its_home(package, name):
    home = import_module(for_type_checkers(package)[name])
    assert getattr(import_module(package), name) is getattr(home, name)


@pytest.mark.parametrize("package", PACKAGES)
def test_no_name_is_there_twice_and_all_are_listed(package):
    module = import_module(package)
    names = names_of(module._HOMES)
    assert len(set(names)) == len(names)
    assert set(names) <= set(dir(module))
    assert set(module.__all__) - {"__version__"} == set(names)
    assert dir(module) == sorted(dir(module))


@pytest.mark.parametrize("package", PACKAGES)
def test_an_unknown_name_is_an_attribute_error(package):
    module = import_module(package)
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'aply'"):
        module.aply  # noqa: B018
    assert not hasattr(module, "aply")


def test_the_version_is_that_of_the_distribution():
    assert layerlens_core.__version__ == version("layerlens-core")


def test_a_name_is_looked_up_once(monkeypatch):
    package = ModuleType("somewhere")
    monkeypatch.setitem(sys.modules, "somewhere", package)
    get, listed = lazily("somewhere", {"errors": ("nearest", "PlanError")})
    assert "nearest" not in vars(package)
    assert get("nearest") is layerlens_core.errors.nearest
    assert vars(package)["nearest"] is layerlens_core.errors.nearest
    assert {"nearest", "PlanError"} <= set(listed())
    assert "PlanError" not in vars(package)
