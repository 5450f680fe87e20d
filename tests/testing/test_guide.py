"""The plugins in docs/plugins.md, as they stand there, pass the kit; and its table names every check and fixture."""

import importlib
import re
import sys
from pathlib import Path

import pytest

from layerlens_core import testing
from layerlens_core.plugin.discovery import providers_of
from layerlens_core.plugin.providers import kind_of
from layerlens_core.testing import fixtures
from testing.test_builtin import CHECKS

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "plugins.md").read_text(encoding="utf-8")
#: The modules of the guide by name, each a block that begins with its file's name.
BLOCKS = dict(re.findall(r"^```python\n# (\w+)\.py\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL))
#: Plugin -> its modules.
PLUGINS = {
    name: [module for module in BLOCKS if module.startswith(name)]
    for name in BLOCKS
    if name.startswith("layerlens_plugin_") and not name.endswith("_side")
}


@pytest.fixture(scope="module")
def modules(tmp_path_factory):
    """The guide's modules by name, imported from files."""
    folder = tmp_path_factory.mktemp("guide")
    for name, text in BLOCKS.items():
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    sys.path.insert(0, str(folder))
    yield {name: importlib.import_module(name) for name in PLUGINS}
    sys.path.remove(str(folder))
    for name in BLOCKS:
        sys.modules.pop(name, None)


def test_there_are_a_metric_a_strategy_a_method_and_an_exporter():
    assert set(PLUGINS) == {f"layerlens_plugin_{name}" for name in ("coherence", "top", "shift", "mytrainer")}
    assert len(re.findall("^```python", GUIDE, re.MULTILINE)) == len(BLOCKS)


@pytest.mark.torch
@pytest.mark.parametrize("name", PLUGINS)
def test_a_plugin_of_the_guide_passes_the_kit(modules, name):
    (provider,) = providers_of(modules[name])
    checks = getattr(testing, f"check_{kind_of(provider)}")(provider, module=name)
    assert len(checks) >= 8
    for check in checks:
        check()


@pytest.mark.parametrize("name", PLUGINS)
def test_a_plugin_of_the_guide_has_fewer_than_sixty_lines(name):
    assert sum(len(BLOCKS[module].splitlines()) + 1 for module in PLUGINS[name]) < 60


@pytest.mark.torch
def test_the_guides_own_test_holds(modules):
    namespace = {}
    exec(BLOCKS["test_contract"], namespace)
    (mark,) = namespace["test_it_keeps_the_contract"].pytestmark
    assert "declares-what-it-needs" in [str(check) for check in mark.args[1]]


def test_every_check_is_in_the_table_and_no_other():
    table = GUIDE.partition("| check | of | holds where |")[2].partition("\n\n")[0]
    told = set(re.findall(r"^\| `([a-z-]+)` \|", table, re.MULTILINE))
    assert told == {str(parameter.values[0]) for parameter in CHECKS}


def test_every_fixture_is_in_the_table():
    names = [name for name, value in vars(fixtures).items() if type(value).__name__ == "FixtureFunctionDefinition"]
    assert len(names) >= 8
    assert all(f"`{name}" in GUIDE for name in names)
