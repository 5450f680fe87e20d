"""Looking around is cheap: help, the list of plugins and the registry import none of the heavy libraries."""

import json

import pytest

HEAVY = {"accelerate", "datasets", "numpy", "peft", "safetensors", "tokenizers", "torch", "transformers"}

COMMAND = """
from layerlens_core.cli import main
main({arguments}, standalone_mode=False)
"""
#: What is done -> the statements that do it.
CHEAP = {
    "import layerlens_core": "import layerlens_core",
    "layerlens --help": COMMAND.format(arguments=["--help"]),
    "layerlens plan --help": COMMAND.format(arguments=["plan", "--help"]),
    "layerlens export --help": COMMAND.format(arguments=["export", "--help"]),
    "layerlens plugins": COMMAND.format(arguments=["plugins"]),
    "layerlens plugins --json": COMMAND.format(arguments=["plugins", "--json"]),
    "the registry": "from layerlens_core.plugin.registry import default\ndefault()",
    "the values": (
        "import layerlens_core as ll\n"
        "ll.Budget, ll.Plan, ll.Profile, ll.allocate, ll.hookimpl, ll.register, ll.strategy, ll.MetricProvider\n"
        "from layerlens_core.plugin import ExportRequest, Method, ModuleStatistics, apportion, write_keys"
    ),
}
TOP_LEVEL = """
import json, sys
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})), file=sys.stderr)
"""


@pytest.mark.parametrize("name", CHEAP)
def test_heavy_libraries_stay_unimported(python, name):
    done = python("-c", CHEAP[name] + TOP_LEVEL)
    assert done.returncode == 0, done.stderr
    modules = set(json.loads(done.stderr.splitlines()[-1]))
    assert "layerlens_core" in modules
    assert modules & HEAVY == set()


def test_the_check_would_notice(python):
    done = python("-c", "import numpy\n" + TOP_LEVEL)
    assert set(json.loads(done.stderr.splitlines()[-1])) & HEAVY == {"numpy"}


@pytest.mark.slow
def test_listing_shows_a_provider_without_loading_it(python, plugin_folder):
    """The strategy ``late`` fails when it is loaded, so listing it as usable proves that it was not."""
    listing = python.listing(PYTHONPATH=str(plugin_folder))
    assert listing.providers["strategy", "late"] == "layerlens-plugin-late"
