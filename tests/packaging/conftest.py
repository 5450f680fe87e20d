"""Real installs in folders of their own, and Python processes that see them."""

from pathlib import Path

import pytest

from installed import Python
from layerlens_core.values.inventory import Inventory, Layer, LinearModule
from layerlens_core.values.profile import Profile
from layerlens_core.values.scores import RawScores

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = ROOT / "tests" / "fixtures" / "plugins"


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
