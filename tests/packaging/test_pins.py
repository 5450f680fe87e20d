"""What `make test-oldest` and `make test-newest` install are the ends of the ranges that pyproject.toml allows."""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
REQUIREMENTS = [
    Requirement(text)
    for texts in (
        PYPROJECT["build-system"]["requires"],
        PYPROJECT["project"]["dependencies"],
        *PYPROJECT["project"]["optional-dependencies"].values(),
    )
    for text in texts
]
#: Of torch alone one version is tested: others come as CUDA builds of several GB.
ONE_VERSION = {"torch"}


def pins(name):
    """Versions by package, as a file of constraints has them."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(each.name): Version(next(iter(each.specifier)).version) for each in found}


OLDEST, TESTED, NEWEST = pins("constraints-oldest.txt"), pins("constraints.txt"), pins("constraints-newest.txt")


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=str)
def test_both_ends_of_a_range_are_pinned_and_the_lower_is_what_is_declared(requirement):
    name = canonicalize_name(requirement.name)
    assert OLDEST[name] in requirement.specifier
    assert NEWEST[name] in requirement.specifier
    (least,) = [Version(each.version) for each in requirement.specifier if each.operator in (">=", "==")]
    if name not in ONE_VERSION:
        # The first release of ninja 1.11, say, is 1.11.1.
        assert OLDEST[name].release[: len(least.release)] == least.release


def test_what_is_tested_every_day_lies_between_the_ends():
    for name, version in TESTED.items():
        assert OLDEST.get(name, version) <= version <= NEWEST[name], name
    for name in ONE_VERSION:
        assert OLDEST[name] == TESTED[name] == NEWEST[name]
