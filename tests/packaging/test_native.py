"""The compiled kernels are used wherever they are installed, and their twins where they are asked for."""

import json
import os
import pkgutil
from importlib import import_module
from pathlib import Path

import pytest

import layerlens_native

#: Every public module of the package chooses between a kernel and its twin.
KERNELS = sorted({each.name for each in pkgutil.iter_modules(layerlens_native.__path__) if each.name[0] != "_"})
#: Of them, sums over gradients take tensors.
each_kernel = pytest.mark.parametrize(
    "kernel", [pytest.param(name, marks=pytest.mark.torch) if name == "gradient_sums" else name for name in KERNELS]
)

IMPLEMENTATIONS = """
import json, sys
from importlib import import_module
print(json.dumps({name: import_module(f"layerlens_native.{name}").IMPLEMENTATION for name in sys.argv[1:]}))
modules = {name for name in sys.modules if name.startswith("layerlens_native._")}
print(*sorted(modules - {"layerlens_native._selector"}))
"""


def implementations(python, **variables):
    """Implementation of every kernel in a fresh process, and the modules that it comes from."""
    done = python("-c", IMPLEMENTATIONS, *KERNELS, **variables)
    assert done.returncode == 0, done.stderr
    chosen, modules = done.stdout.splitlines()
    return json.loads(chosen), modules.split()


def test_the_kernels_are_those_in_the_sources():
    sources = Path(__file__).resolve().parents[2] / "native" / "layerlens_native"
    assert sorted(path.stem.removeprefix("_") for path in sources.glob("_*.pyx")) == KERNELS
    assert "threshold" in KERNELS


@pytest.mark.skipif(os.environ.get("LAYERLENS_PURE") == "1", reason="LAYERLENS_PURE=1 asks for the twins")
@each_kernel
def test_this_process_uses_the_native_kernel(kernel):
    """Without it everything works, only slower: nothing else would tell."""
    implementation = import_module(f"layerlens_native.{kernel}").IMPLEMENTATION
    assert implementation == "native", "the extension is not built or not found: remove .venv/.installed and run make"


@pytest.mark.skipif(os.environ.get("LAYERLENS_PURE") != "1", reason="LAYERLENS_PURE=1 is not set")
@each_kernel
def test_this_process_uses_the_twin_that_was_asked_for(kernel):
    assert import_module(f"layerlens_native.{kernel}").IMPLEMENTATION == "pure"


@pytest.mark.torch
@pytest.mark.parametrize("variables", [{}, {"LAYERLENS_PURE": "0"}, {"LAYERLENS_PURE": ""}])
def test_the_native_kernels_are_the_default(python, variables):
    chosen, modules = implementations(python, **variables)
    assert chosen == dict.fromkeys(KERNELS, "native")
    assert modules == [f"layerlens_native._{name}" for name in KERNELS]


@pytest.mark.torch
def test_the_pure_twins_are_chosen_by_the_environment(python):
    chosen, modules = implementations(python, LAYERLENS_PURE="1")
    assert chosen == dict.fromkeys(KERNELS, "pure")
    assert modules == [f"layerlens_native._{name}_py" for name in KERNELS]
