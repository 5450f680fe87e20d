"""Real installs in folders of their own, and Python processes that see them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from attrs import frozen

from layerlens_core.values.inventory import Inventory, Layer, LinearModule
from layerlens_core.values.profile import Profile
from layerlens_core.values.scores import RawScores

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = ROOT / "tests" / "fixtures" / "plugins"

#: What would change the outcome if it came from the developer's own shell.
OURS = ("LAYERLENS_PURE", "LAYERLENS_DISABLE_PLUGINS", "IMPORT_MARKS", "PYTHONPATH")


def environment(**variables):
    """The environment of this process without `OURS`; colours are off, so that output can be compared."""
    return {name: value for name, value in os.environ.items() if name not in OURS} | {"NO_COLOR": "1"} | variables


@frozen
class Python:
    """Runs Python in a directory of its own, with a folder of installed distributions on the path."""

    directory: Path
    path: Path | None = None

    def __call__(self, *arguments, **variables):
        if self.path is not None:
            variables = {"PYTHONPATH": str(self.path), **variables}
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=self.directory,
            env=environment(**variables),
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=300,
        )

    def layerlens(self, *arguments, **variables):
        """The command line, as a process of its own."""
        return self("-m", "layerlens_core", *arguments, **variables)

    def listing(self, *options, **variables):
        """What ``layerlens plugins --json`` says; it has to succeed."""
        done = self.layerlens(*options, "plugins", "--json", **variables)
        assert done.returncode == 0, done.stderr
        return Listing(json.loads(done.stdout))

    def pip(self, *arguments):
        """pip without an index: whatever is installed comes from the sources at hand."""
        done = self("-m", "pip", *arguments, PIP_NO_INDEX="1", PIP_DISABLE_PIP_VERSION_CHECK="1")
        assert done.returncode == 0, done.stdout + done.stderr
        return done


@frozen
class Listing:
    """The document of ``layerlens plugins --json``."""

    document: dict

    @property
    def plugins(self):
        """Plugins by distribution."""
        return {plugin["distribution"]: plugin for plugin in self.document["plugins"]}

    @property
    def providers(self):
        """The distribution of every usable provider, by kind and name."""
        return {(each["kind"], each["name"]): each["distribution"] for each in self.document["providers"]}

    @property
    def conflicts(self):
        return self.document["conflicts"]


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
