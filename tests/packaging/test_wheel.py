"""The wheels: what they hold, that building leaves the sources alone, and that they work where nothing else is."""

import importlib.util
import os
import shutil
from pathlib import Path

import pytest

#: What the registry and the command line need at run time; torch and the like are not among it.
SMALL_DEPENDENCIES = ("attr", "attrs", "click", "pluggy")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("cmake") is None and importlib.util.find_spec("cmake") is None, reason="building needs cmake"
    ),
]


def test_building_leaves_the_sources_alone(touched):
    assert touched == []


def test_the_core_wheel_holds_its_three_packages_and_nothing_else(built):
    assert built.core.top_level == {"layerlens_core", "layerlens_native", "layerlens_builtin"}


@pytest.fixture
def sources(built):
    """Every file of the sources below a package, as a wheel names it; those of kernels and of tools are for builds."""
    names = built.core_sdist.names
    places = {
        "layerlens_core/": "layerlens_core/",
        "native/layerlens_native/": "layerlens_native/",
        "plugins/layerlens_builtin/": "layerlens_builtin/",
    }
    found = {new + name.removeprefix(old) for old, new in places.items() for name in names if name.startswith(old)}
    return {name for name in found if Path(name).suffix not in (".pyx", ".h", ".inc")}


def test_the_core_wheel_holds_every_file_of_its_packages_and_extensions(built, sources):
    extensions = built.core.contents - sources
    kernels = {Path(name).stem for name in built.core_sdist.names if name.endswith(".pyx")}
    assert built.core.contents >= sources
    assert "_threshold" in kernels
    assert extensions == {f"layerlens_native/{kernel}.abi3.so" for kernel in kernels}
    for package in ("layerlens_core", "layerlens_native", "layerlens_builtin"):
        assert f"{package}/py.typed" in sources


def test_what_pages_and_new_plugins_are_made_of_is_in_the_wheel(built):
    pages = {f"layerlens_core/reporting/{name}" for name in ("page.html", "page.css", "page.js", "notebook.html")}
    templates = {name for name in built.core.contents if name.startswith("layerlens_core/testing/templates/")}
    assert pages <= built.core.contents
    assert len(templates) >= 18


def test_no_wheel_holds_tests(built):
    """Templates of plugins bring tests, which are data here."""
    for wheel in (built.core, built.plugin):
        names = {Path(name) for name in wheel.names if "/templates/" not in name}
        assert {name for name in names if name.stem.startswith(("test_", "conftest")) or "tests" in name.parts} == set()


def test_the_core_wheel_serves_every_python_from_the_least_on(built):
    python, abi, platform = built.core.tags
    assert (python, abi) == ("cp311", "abi3")
    assert platform != "any"
    assert "Root-Is-Purelib: false" in built.core.read("WHEEL")


def test_the_core_wheel_has_its_entry_points_and_metadata(built):
    assert built.core.entry_points("console_scripts") == {"layerlens": "layerlens_core.cli:main"}
    assert built.core.entry_points("layerlens") == {"builtin": "layerlens_builtin"}
    assert built.core.metadata["Name"] == "layerlens-core"


def test_the_plugin_wheel_is_pure_and_has_its_entry_point(built):
    assert built.plugin.path.name.endswith("-py3-none-any.whl")
    assert built.plugin.top_level == {"layerlens_plugin_costbenefit"}
    assert built.plugin.entry_points("layerlens") == {"costbenefit": "layerlens_plugin_costbenefit"}
    assert built.plugin.metadata["Name"] == "layerlens-plugin-costbenefit"
    assert [text.partition(">")[0] for text in built.plugin.metadata.get_all("Requires-Dist")] == ["layerlens-core"]
    assert "layerlens_plugin_costbenefit/py.typed" in built.plugin.names


@pytest.fixture
def bare(built, tmp_path):
    """A folder with the unpacked core wheel and the few packages that it needs to list plugins, and nothing else."""
    folder = tmp_path / "site"
    built.core.unpack(folder)
    for name in SMALL_DEPENDENCIES:
        (origin,) = importlib.util.find_spec(name).submodule_search_locations
        os.symlink(origin, folder / name)
    return folder


ASK = """
import layerlens_core, layerlens_native.threshold
from layerlens_core.errors import PluginError
from layerlens_core.plugin.registry import default
print(layerlens_core.__file__)
print(layerlens_native.threshold.IMPLEMENTATION)
try:
    default().get("strategy", "cost-benefit")
    print(default().plugin_of("strategy", "cost-benefit"))
except PluginError as error:
    print(error)
"""


def ask(python, folder):
    """Run `ASK` without site-packages (``-S``): what is not in the folder is not installed."""
    done = python("-S", "-c", ASK, PYTHONPATH=str(folder))
    assert done.returncode == 0, done.stderr
    home, kernel, *answer = done.stdout.splitlines()
    assert Path(home).is_relative_to(folder)
    assert kernel == "native"
    return "\n".join(answer)


def test_without_the_plugin_asking_for_cost_benefit_names_what_to_install(python, bare):
    answer = ask(python, bare)
    assert answer.startswith("no strategy is named 'cost-benefit'; there are: budget, tempered, threshold, uniform. ")
    assert answer.endswith("It comes with layerlens-plugin-costbenefit: pip install layerlens-plugin-costbenefit")


def test_with_the_plugin_cost_benefit_is_there(python, bare, built):
    built.plugin.unpack(bare)
    assert ask(python, bare) == "costbenefit (layerlens-plugin-costbenefit)"


def test_the_installed_wheels_list_themselves(python, bare, built):
    built.plugin.unpack(bare)
    done = python("-S", "-m", "layerlens_core", "plugins", PYTHONPATH=str(bare))
    assert done.returncode == 0, done.stderr
    assert "layerlens-plugin-costbenefit 0.1.0" in done.stdout
    assert "failed" not in done.stdout
