"""The wheels: what they hold, that building leaves the sources alone, and that they work where nothing else is."""

import configparser
import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest
from attrs import frozen

ROOT = Path(__file__).resolve().parents[2]
COSTBENEFIT = Path("plugins", "layerlens-plugin-costbenefit")
SOURCES = (".gitignore", "LICENSE", "README.md", "layerlens_core", "native", "plugins", "pyproject.toml")
#: What the registry and the command line need at run time; torch and the like are not among it.
SMALL_DEPENDENCIES = ("attr", "attrs", "click", "pluggy")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("cmake") is None and importlib.util.find_spec("cmake") is None, reason="building needs cmake"
    ),
]


@frozen
class Wheel:
    """A wheel and what it holds."""

    path: Path

    @property
    def names(self):
        with zipfile.ZipFile(self.path) as archive:
            return [name for name in archive.namelist() if not name.endswith("/")]

    @property
    def top_level(self):
        return {name.partition("/")[0] for name in self.names if ".dist-info/" not in name}

    def read(self, name):
        """A file of the ``.dist-info`` folder."""
        (found,) = [each for each in self.names if each.endswith(f".dist-info/{name}")]
        with zipfile.ZipFile(self.path) as archive:
            return archive.read(found).decode()

    def entry_points(self, group):
        parser = configparser.ConfigParser(delimiters=("=",))
        parser.read_string(self.read("entry_points.txt"))
        return dict(parser[group])

    @property
    def metadata(self):
        return Parser().parsestr(self.read("METADATA"))

    def unpack(self, folder):
        with zipfile.ZipFile(self.path) as archive:
            archive.extractall(folder)


@frozen
class Built:
    """Both wheels, the sources that they were built from, and what git said of those before and after."""

    sources: Path
    core: Wheel
    plugin: Wheel
    status_before: list[str]
    status_after: list[str]


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """Both wheels, built from a copy of the sources, which is a git repository of its own."""
    place = tmp_path_factory.mktemp("wheels")
    copy, out = place / "copy", place / "out"
    copy.mkdir()
    junk = shutil.ignore_patterns("__pycache__", "*.so", "*.pyd", "build", "dist", "*.egg-info")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=junk)
        else:
            shutil.copy2(ROOT / name, copy / name)
    git(copy, "init", "--quiet")
    git(copy, "add", "--all")
    before = status(copy)
    flags = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(out))
    for source in (copy, copy / COSTBENEFIT):
        done = subprocess.run(
            [sys.executable, "-m", "pip", "wheel", *flags, str(source)], cwd=place, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
    (core,) = out.glob("layerlens_core-*.whl")
    (plugin,) = out.glob("layerlens_plugin_costbenefit-*.whl")
    return Built(copy, Wheel(core), Wheel(plugin), before, status(copy))


def git(directory, *arguments):
    return subprocess.run(["git", "-C", str(directory), *arguments], check=True, capture_output=True, text=True).stdout


def status(directory):
    """What git sees, ignored files too but those of the declared build folder."""
    lines = git(directory, "status", "--porcelain", "--untracked-files=all", "--ignored").splitlines()
    return [line for line in lines if not line.startswith("!! build/")]


def test_building_leaves_the_sources_alone(built):
    assert any(line.startswith("A ") for line in built.status_before)
    assert built.status_after == built.status_before


def test_the_core_wheel_holds_its_three_packages_and_nothing_else(built):
    assert built.core.top_level == {"layerlens_core", "layerlens_native", "layerlens_builtin"}


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("layerlens_core", "layerlens_core"),
        ("layerlens_native", "native/layerlens_native"),
        ("layerlens_builtin", "plugins/layerlens_builtin"),
    ],
)
def test_every_module_of_a_package_is_in_the_wheel(built, package, source):
    folder = built.sources / source
    modules = {f"{package}/{path.relative_to(folder).as_posix()}" for path in folder.rglob("*.py")}
    assert modules <= set(built.core.names)
    assert f"{package}/py.typed" in built.core.names


def test_what_pages_are_made_of_is_in_the_wheel(built):
    files = {f"layerlens_core/reporting/{name}" for name in ("page.html", "page.css", "page.js", "notebook.html")}
    assert files <= set(built.core.names)


def test_the_templates_of_plugins_are_in_the_wheel_whole(built):
    folder = built.sources / "layerlens_core" / "testing" / "templates"
    files = {
        path.relative_to(built.sources).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and ".ruff_cache" not in path.parts
    }
    assert len(files) >= 18
    assert files <= set(built.core.names)


def test_the_core_wheel_holds_the_extensions_and_is_tagged_for_this_platform(built):
    extensions = {name for name in built.core.names if name.endswith(tuple(EXTENSION_SUFFIXES))}
    kernels = [path.stem for path in (built.sources / "native" / "layerlens_native").glob("*.pyx")]
    assert "_threshold" in kernels
    assert extensions == {f"layerlens_native/{kernel}{EXTENSION_SUFFIXES[0]}" for kernel in kernels}
    interpreter = f"cp{sys.version_info.major}{sys.version_info.minor}"
    _, _, python, abi, platform = built.core.path.stem.split("-")
    assert (python, abi) == (interpreter, interpreter)
    assert platform != "any"
    assert "Root-Is-Purelib: false" in built.core.read("WHEEL")


def test_the_core_wheel_has_its_entry_points_and_metadata(built):
    assert built.core.entry_points("console_scripts") == {"layerlens": "layerlens_core.cli:main"}
    assert built.core.entry_points("layerlens") == {"builtin": "layerlens_builtin"}
    assert built.core.metadata["Name"] == "layerlens-core"
    assert any(name.endswith("LICENSE") for name in built.core.names)


def test_the_plugin_wheel_is_pure_and_has_its_entry_point(built):
    assert built.plugin.path.name.endswith("-py3-none-any.whl")
    assert built.plugin.top_level == {"layerlens_plugin_costbenefit"}
    assert built.plugin.entry_points("layerlens") == {"costbenefit": "layerlens_plugin_costbenefit"}
    assert built.plugin.metadata["Name"] == "layerlens-plugin-costbenefit"
    assert [text.partition(">")[0] for text in built.plugin.metadata.get_all("Requires-Dist")] == ["layerlens-core"]


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
