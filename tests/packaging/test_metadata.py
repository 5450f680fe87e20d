"""What PyPI and pip are told of the distributions, and what the source distributions hold."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.metadata import Metadata
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from trove_classifiers import classifiers as known_classifiers

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = ROOT / "plugins" / "layerlens-plugin-costbenefit"
#: What a source distribution of the core is made of, besides what describes it.
CORE_FOLDERS = ("layerlens_core/", "native/", "plugins/layerlens_builtin/")
CORE_FILES = {"CHANGELOG.md", "LICENSE", "README.md", "pyproject.toml"}
#: What build backends add: metadata, and hatchling the patterns that it went by.
ADDED = {"PKG-INFO", ".gitignore"}
LINK = re.compile(r"\[[^\]]+\]\(([^)]+)\)")
CODE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)

pytestmark = pytest.mark.slow


@pytest.fixture(params=["core", "plugin"])
def told(request, built):
    """A wheel, the folder of its project and what is declared there."""
    folder = ROOT if request.param == "core" else PLUGIN
    return getattr(built, request.param), folder, tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))


def tracked(folder):
    """Files below a folder that git knows."""
    listing = subprocess.run(["git", "-C", folder, "ls-files", "-z"], capture_output=True, text=True, check=False)
    if listing.returncode:
        pytest.skip("this is no checkout")
    return {name for name in listing.stdout.split("\0") if (folder / name).is_file()}


def test_the_source_distribution_of_the_core_holds_what_git_knows_of_its_folders_and_nothing_else(built):
    expected = {name for name in tracked(ROOT) if name.startswith(CORE_FOLDERS)} | CORE_FILES
    assert built.core_sdist.names - ADDED == expected


def test_the_source_distribution_of_the_plugin_holds_its_sources_and_nothing_else(built):
    expected = {name for name in tracked(PLUGIN) if not name.startswith("tests/")}
    assert built.plugin_sdist.names - ADDED == expected
    assert {"LICENSE", "README.md", "pyproject.toml"} <= expected


def test_the_metadata_keep_to_their_specification(told):
    wheel, _, declared = told
    metadata = Metadata.from_email(wheel.read("METADATA"), validate=True)
    assert metadata.requires_python == SpecifierSet(">=3.11")
    extras = declared["project"].get("optional-dependencies", {})
    assert (metadata.provides_extra or []) == list(extras)
    assert set(metadata.requires_dist) == {
        *map(Requirement, declared["project"]["dependencies"]),
        *(Requirement(f'{text}; extra == "{extra}"') for extra, texts in extras.items() for text in texts),
    }


def test_the_classifiers_exist_and_name_every_python_that_is_tried(told):
    wheel, _, _ = told
    named = set(wheel.metadata.get_all("Classifier"))
    assert named <= known_classifiers
    assert {f"Programming Language :: Python :: 3.{minor}" for minor in (11, 12, 13)} <= named
    assert not any(name.startswith("License ::") for name in named)  # the expression says it, and excludes these


def test_the_licence_is_named_and_comes_along(told):
    wheel, folder, _ = told
    assert wheel.metadata["License-Expression"] == "Apache-2.0"
    assert wheel.read("licenses/LICENSE") == (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert (folder / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_what_pypi_shows_has_no_link_that_leads_nowhere(told):
    """PyPI has none of the files beside the README; links to them become plain text, or lead to the repository."""
    wheel, folder, _ = told
    assert wheel.metadata["Description-Content-Type"] == "text/markdown"
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert any(not target.startswith("https://") for target in LINK.findall(readme))
    assert [target for target in LINK.findall(wheel.description) if not target.startswith("https://")] == []


def test_what_pypi_shows_is_else_the_readme(told):
    wheel, folder, _ = told
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert CODE.findall(wheel.description) == CODE.findall(readme)
    assert _words(wheel.description) == _words(LINK.sub(lambda link: link[0][1:].partition("](")[0], readme))


def _words(text):
    return LINK.sub(lambda link: link[0][1:].partition("](")[0], text).split()


def test_addresses_are_public_and_links_lead_to_the_repository_once_it_has_one(told):
    """Until the repository has a public address there is none to name."""
    wheel, _, declared = told
    addresses = [text.partition(", ")[2] for text in wheel.metadata.get_all("Project-URL") or ()]
    assert all(address.startswith("https://") for address in addresses)
    (substitution,) = declared["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]
    assert bool(addresses) == (substitution["replacement"] != r"\1")
