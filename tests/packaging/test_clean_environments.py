"""Distributions, installed by pip into environments that hold nothing else, of every Python that is supported.

`make packages` runs these, as they need a package index. All dependencies are installed for the Python that the tests
run with; torch and what needs it come to more than 1 GB, so the others get all else, and try what works without.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from attrs import frozen
from packaging.requirements import Requirement

from bert_profile import bert_profile
from installed import Python, environment
from interpreters import interpreter

ROOT = Path(__file__).resolve().parents[2]
VERSIONS = ("3.11", "3.12", "3.13")
OWN = "{}.{}".format(*sys.version_info)
#: These are installed for one Python alone.
HEAVY = {"peft", "torch", "transformers"}
COMPILERS = ("c++", "cc", "clang", "cmake", "cython", "g++", "gcc", "make", "ninja")
SCORES = (1.0, 4.0, 2.5, 0.3)

KERNELS = """
import array, ctypes
from layerlens_native import _gradient_sums, knapsack, threshold
assert (knapsack.IMPLEMENTATION, threshold.IMPLEMENTATION) == ("native", "native")
left, right, found = array.array("d", [1, 2, 3, 4]), array.array("d", [5, 6, 7, 8]), array.array("d", [0, 0])
at = lambda numbers: numbers.buffer_info()[0]
_gradient_sums.inner(False, at(left), 2, at(right), 2, 2, 2, 2, at(found))
assert list(found) == [17, 53], found
print(_gradient_sums.__file__)
"""
PLAN = """
import sys
import layerlens_core as ll
_, run, strategy = sys.argv
methods, budget = ("none", "prefix", "adapter", "lora"), ll.Budget(params="20k")
plan = ll.allocate(ll.Profile.load(run), strategy=strategy, methods=methods, budget=budget)
assert "torch" not in sys.modules
plan.save(run)
"""
#: The way of the README, on a model that is made here.
WAY = """
import torch, transformers
import layerlens_core as ll
torch.manual_seed(0)
small = dict(hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, vocab_size=64)
model = transformers.AutoModelForCausalLM.from_config(transformers.LlamaConfig(**small))
rows = torch.randint(1, 64, (4, 8))
batches = [{"input_ids": rows, "attention_mask": torch.ones_like(rows), "labels": rows}]
plan = ll.allocate(ll.profile(model, batches), budget=ll.Budget(params="r=2"))
model = ll.apply(model, plan)
model(**batches[0]).loss.backward()
trained = sum(each.numel() for each in model.parameters() if each.requires_grad)
assert 0 < trained == plan.parameters, (trained, plan.parameters)
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        "LAYERLENS_DIST" not in os.environ, reason="`make packages` runs this: it needs a package index"
    ),
]


@frozen
class Clean:
    """A virtual environment, whose programs see no others, a compiler least of all."""

    folder: Path

    @property
    def programs(self):
        return self.folder / "bin"

    def __call__(self, program, *arguments, **variables):
        """Run a program of the environment; it has to succeed."""
        given = {"PATH": str(self.programs), "PIP_CONSTRAINT": str(ROOT / "constraints.txt")} | variables
        inherited = {name: value for name, value in environment().items() if name not in ("CC", "CXX", "VIRTUAL_ENV")}
        command = [str(self.programs / program), *map(str, arguments)]
        done = subprocess.run(
            command, cwd=self.folder, env=inherited | given, capture_output=True, text=True, encoding="utf-8"
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def pip(self, *arguments, **variables):
        return self("python", "-m", "pip", "--quiet", "install", "--no-compile", *arguments, **variables)


@pytest.fixture(scope="module", params=VERSIONS)
def make_environment(request):
    """Makes empty environments of one version of Python, which are gone afterwards, as they are large."""
    python = interpreter(request.param)
    if python is None:
        assert os.environ.get("LAYERLENS_ALL_PYTHONS") != "1", f"there is no Python {request.param} here"
        pytest.skip(f"there is no Python {request.param} here")
    with tempfile.TemporaryDirectory() as folder:

        def make(name):
            subprocess.run([python, "-m", "venv", Path(folder, name)], check=True, capture_output=True)
            return Clean(Path(folder, name))

        yield make


def light(built):
    """What the core requires, without `HEAVY`."""
    required = map(Requirement, built.core.metadata.get_all("Requires-Dist"))
    return [str(each) for each in required if each.marker is None and each.name not in HEAVY]


@pytest.fixture(scope="module")
def installed(make_environment, built):
    """Both wheels with what they need but torch, installed without a compiler and without building anything."""
    clean = make_environment("wheels")
    assert not any(shutil.which(name, path=str(clean.programs)) for name in COMPILERS)
    clean.pip("--only-binary", ":all:", *light(built))
    clean.pip("--no-index", "--no-deps", built.core.path, built.plugin.path)
    return clean


@pytest.fixture(scope="module")
def editable(make_environment, built, tmp_path_factory):
    """Both projects, as their source distributions have them, installed editably."""
    clean = make_environment("editable")
    clean.pip("--only-binary", ":all:", *light(built))
    for sdist in (built.core_sdist, built.plugin_sdist):
        folder = sdist.unpack(tmp_path_factory.mktemp("sources"))
        clean.pip("--no-deps", "--editable", folder, PATH=f"{clean.programs}:{os.environ['PATH']}")
    return clean


def usable(clean):
    """Provider names of the plugin listing, by kind; nothing may have failed."""
    listing = json.loads(clean("layerlens", "plugins", "--json"))
    assert {plugin["status"] for plugin in listing["plugins"]} == {"loaded"}
    assert [plugin["version"] for plugin in listing["plugins"]] == ["0.1.0", "0.1.0"]
    return {(each["kind"], each["name"]) for each in listing["providers"]}


def test_the_kernels_of_the_wheel_compute(installed):
    home = Path(installed("python", "-c", KERNELS).strip())
    assert home.is_relative_to(installed.folder)


def test_the_command_line_answers_without_torch(installed):
    assert "Usage: layerlens" in installed("layerlens", "--help")
    expected = {("strategy", "cost-benefit"), ("strategy", "tempered"), ("metric", "gora"), ("method", "lora")}
    assert expected <= usable(installed)


@pytest.mark.parametrize("strategy", ["budget", "cost-benefit", "tempered"])
def test_a_recorded_profile_is_planned_as_it_is_here(installed, strategy, tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    for run in (here, there):
        bert_profile(SCORES).save(run)
    assert Python(tmp_path)("-c", PLAN, here, strategy).stderr == ""
    installed("python", "-c", PLAN, there, strategy)
    assert (there / "plan.json").read_bytes() == (here / "plan.json").read_bytes()


def test_an_editable_installation_computes_and_lists_its_plugins(editable):
    home = Path(editable("python", "-c", KERNELS).strip())
    assert home.name.endswith(".so")
    assert ("strategy", "cost-benefit") in usable(editable)
    assert not Path(editable("python", "-c", "import layerlens_core as ll; print(ll.__file__)")).is_relative_to(
        editable.folder
    )


def test_with_all_it_requires_the_wheel_takes_a_model_the_whole_way(make_environment, built, request):
    if request.node.callspec.params["make_environment"] != OWN:
        pytest.skip(f"torch and what needs it are tried with Python {OWN} alone")
    clean = make_environment("whole")
    clean.pip("--only-binary", ":all:", built.core.path, built.plugin.path)
    clean("python", "-m", "pip", "check")
    clean("python", "-W", "ignore", "-c", WAY)
