"""Profiles and plans survive their files, and give the same plan again."""

import hashlib

import layerlens_core as ll
from bert_profile import bert_profile
from layerlens_core.allocation.allocate import allocate
from layerlens_core.files.run import PROFILE
from layerlens_core.values.profile import Profile, versions


def test_a_profile_and_a_plan_survive_their_files(tmp_path):
    profile = bert_profile([3, 1, 2], granularity="module")
    plan = allocate(profile)
    profile.save(tmp_path)
    plan.save(tmp_path)
    assert Profile.load(tmp_path) == profile
    assert ll.Plan.load(tmp_path) == plan
    assert ll.Plan.load(tmp_path).digest == plan.digest
    assert (
        plan.profile == Profile.load(tmp_path).digest == hashlib.sha256((tmp_path / PROFILE).read_bytes()).hexdigest()
    )
    assert allocate(Profile.load(tmp_path)) == plan
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plan.json", "profile.json"]


def test_a_profile_takes_the_place_of_what_was_partial(tmp_path):
    for name in ("profile.partial", "profile.partial.1", "plan.json"):
        (tmp_path / name).touch()
    bert_profile([1.0]).save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plan.json", "profile.json"]


def test_versions_are_those_of_what_the_numbers_depend_on():
    assert set(versions()) == {"python", "layerlens", "torch", "transformers", "peft"}
    assert versions()["layerlens"] == ll.__version__
