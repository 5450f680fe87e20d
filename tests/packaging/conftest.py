"""Real installs in folders of their own, and Python processes that see them."""

import fcntl
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from distributions import Distributions, Sdist
from installed import Python
from layerlens_core.values.inventory import Inventory, Layer, LinearModule
from layerlens_core.values.profile import Profile
from layerlens_core.values.scores import RawScores

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = ROOT / "tests" / "fixtures" / "plugins"
#: The core and the distribution beside it, and what is copied to build them.
PROJECTS = (Path(), Path("plugins", "layerlens-plugin-costbenefit"))
FILES = (".gitignore", "CHANGELOG.md", "LICENSE", "README.md", "pyproject.toml")
FOLDERS = ("layerlens_core", "native", "plugins")
JUNK = ("__pycache__", "*.so", "*.pyd", "build", "dist", "*.egg-info", ".*_cache")
#: Builds a source distribution into the folder that is given, as a front end would, but with what is installed here.
SDIST = """
import sys
from {build-backend} import build_sdist
build_sdist(sys.argv[1])
"""


@pytest.fixture
def python(tmp_path):
    """Python as it is installed here."""
    return Python(tmp_path)


@pytest.fixture(scope="session")
def plugin_folder(tmp_path_factory):
    """All fixture plugins, installed with pip into one folder."""
    folder = tmp_path_factory.mktemp("plugins") / "installed"
    sources = sorted(path.parent for path in PLUGINS.glob("*/pyproject.toml"))
    Python(folder.parent).pip(
        "install", "--no-deps", "--no-compile", "--no-build-isolation", "--target", folder, *sources
    )
    return folder


@pytest.fixture
def plugged(plugin_folder, tmp_path):
    """Python with all fixture plugins beside what is installed here."""
    return Python(tmp_path, plugin_folder)


@pytest.fixture(scope="session")
def listing(plugin_folder, tmp_path_factory):
    """What ``layerlens plugins`` says about all fixture plugins."""
    return Python(tmp_path_factory.mktemp("listing"), plugin_folder).listing()


@pytest.fixture
def run(tmp_path):
    """The directory of a profiled run: two layers of one linear module each."""
    layers = tuple(
        Layer(
            name=name,
            modules=(LinearModule(name=f"{name}.w", layer=name, kind="linear", in_features=8, out_features=8),),
        )
        for name in ("layers.0", "layers.1")
    )
    profile = Profile(
        inventory=Inventory(architecture="Toy", model_type="toy", parameters=1_000, layers=layers),
        task="causal-lm",
        scores=(RawScores(metric="fisher", unit="1", granularity="layer", values={"layers.0": 1.0, "layers.1": 3.0}),),
        statistics=(),
        data="none",
        samples=1,
        loss=0.0,
    )
    directory = tmp_path / "run"
    profile.save(directory)
    return directory


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """Sources and wheels of core and plugin: those in the folder ``LAYERLENS_DIST``, or built here.

    `make packages` names the folder of what it built in environments of their own. Without it, source distributions are
    built from a copy of the sources by what is installed, and wheels from those; once for all processes of a test run.
    """
    if folder := os.environ.get("LAYERLENS_DIST"):
        return Distributions.at(Path(folder).resolve())
    base = tmp_path_factory.getbasetemp()
    place = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "distributions"
    place.mkdir(exist_ok=True)
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / "done").exists():
            _build(place)
            (place / "done").touch()
    return Distributions.at(place / "out")


@pytest.fixture(scope="session")
def touched(built):
    """What git sees of the sources after building, ignored files too, but those of the declared build folder."""
    if "LAYERLENS_DIST" in os.environ:
        pytest.skip("what LAYERLENS_DIST holds was built elsewhere")
    place = built.core.path.parents[1]
    status = ("status", "--porcelain", "--untracked-files=all", "--ignored")
    lines = [line for folder in _repositories(place) for line in _git(folder, *status).splitlines()]
    return [line for line in lines if not line.startswith(("A ", "!! build/"))]


def _build(place):
    copy, out = place / "copy", place / "out"
    copy.mkdir()
    for name in FILES:
        shutil.copy2(ROOT / name, copy / name)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns(*JUNK))
    for litter in ("scratch/secret.py", "layerlens_core/.ruff_cache/entry", "layerlens_core/__pycache__/lazy.pyc"):
        (copy / litter).parent.mkdir(parents=True)
        (copy / litter).touch()
    _under_git(copy)
    for project in PROJECTS:
        settings = tomllib.loads((copy / project / "pyproject.toml").read_text(encoding="utf-8"))
        _run(sys.executable, "-c", SDIST.format(**settings["build-system"]), out, cwd=copy / project)
    flags = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", out)
    for sdist in sorted(out.glob("*.tar.gz")):
        unpacked = Sdist(sdist).unpack(place / "unpacked" / sdist.name.partition("-")[0])
        shutil.copy2(ROOT / ".gitignore", unpacked)
        _under_git(unpacked)
        _run(sys.executable, "-m", "pip", "wheel", *flags, unpacked, cwd=place)


def _repositories(place):
    return [place / "copy", *sorted((place / "unpacked").glob("*/*"))]


def _under_git(folder):
    _git(folder, "init", "--quiet")
    _git(folder, "add", "--all", "--force")


def _git(folder, *arguments):
    return _run("git", "-C", folder, *arguments, cwd=folder).stdout


def _run(*command, cwd):
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done
