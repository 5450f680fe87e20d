"""Where no metric is named: which one scores, what the profile says of it, and plans that follow."""

import pytest
import torch

import zoo
from layerlens_core.allocation.allocate import allocate
from layerlens_core.errors import DataError, ModelError
from layerlens_core.profiling import recorded
from layerlens_core.profiling.profile import profile
from layerlens_core.values.profile import Profile
from zoo.profiled import build, samples

FAMILY = zoo.find("llama")


def metrics(run):
    return [scores.metric for scores in run.scores]


def test_it_is_goras_importance_and_nothing_else_is_measured(tmp_path):
    run = profile(build(FAMILY), samples(FAMILY, count=8))
    assert metrics(run) == ["gora"]
    assert run.settings["metrics"] == "default: gora"
    for each in run.statistics:
        assert each.sum_weight_gradient is each.sum_squared_norm is each.sum_group_mean_squared_norm is None
    named = profile(build(FAMILY), samples(FAMILY, count=8), metrics=["gora"])
    assert named.scores == run.scores
    assert "metrics" not in named.settings
    run.save(tmp_path)
    assert Profile.load(tmp_path) == run


def test_until_a_mean_over_samples_settles_it_is_such_a_mean():
    run = profile(build(FAMILY), samples(FAMILY, count=40), samples="auto")
    assert metrics(run) == ["weight_gradient"]
    assert run.settings["metrics"].startswith("default: weight_gradient, as samples are taken until")


@pytest.mark.parametrize("scores", ["sketch", "auto"])
def test_other_than_exact_scores_want_a_metric_to_be_named(scores):
    with pytest.raises(DataError, match="asked for were weight_gradient"):
        profile(build(FAMILY), samples(FAMILY, count=8), scores=scores)


def test_sharded_weights_are_scored_by_what_their_pass_gives(monkeypatch):
    monkeypatch.setattr(recorded, "is_sharded", lambda model: True)
    run = profile(build(FAMILY), samples(FAMILY, count=8))
    assert metrics(run) == ["weight_gradient"]
    assert run.settings["metrics"] == "default: weight_gradient, as weights are sharded"


def test_where_padding_is_not_inert_scores_do_not_depend_on_the_micro_batch():
    """FNet mixes all positions, padding too."""
    family = zoo.find("fnet")
    found = [profile(build(family), samples(family, count=12), micro_batch=size) for size in (1, 6)]
    assert found[1].settings.get("batches") == "equal lengths", "else this test says nothing"
    assert found[1].scores[0].values == pytest.approx(found[0].scores[0].values, rel=1e-9)


def test_what_else_a_profile_may_hold_goes_with_it(tmp_path):
    whole = profile(
        build(FAMILY, torch.float32), samples(FAMILY, count=16), latency=True, spectrum=True, directions=tmp_path
    )
    assert metrics(whole) == ["gora"]
    assert all(each.spectrum for each in whole.statistics)
    assert whole.latency
    assert whole.directions is not None
    assert allocate(whole, budget="params=r=4").decisions


def test_a_run_that_was_interrupted_in_it_goes_on_to_the_same_scores(tmp_path):
    class Interrupted(Exception):
        pass

    def progress(stage, done, total):
        if stage == "gora":
            raise Interrupted

    given = samples(FAMILY, count=8)
    with pytest.raises(Exception, match="Interrupted"):
        profile(build(FAMILY), given, run=tmp_path, progress=progress)
    again = profile(build(FAMILY), given, run=tmp_path, resume=True)
    assert again.scores == profile(build(FAMILY), given).scores


def test_a_plan_departs_from_uniform_where_halves_of_the_samples_agree():
    """One label for all makes all gradients alike."""
    family = zoo.find("bert-classifier")
    plain = [sample | {"labels": torch.tensor(1)} for sample in samples(family, count=32)]
    run = profile(build(family), plain)
    assert run.module_stability["gora"] > 0.9
    plan = allocate(run, budget="params=r=4", margins=False)
    assert plan.abstained is None
    assert len(set(plan.sizes("lora").values())) > 1


def test_a_weight_that_cannot_be_read_is_named(monkeypatch):
    def closed(*_):
        raise ModelError("the weight of q is packed; leave gora out")

    monkeypatch.setattr("layerlens_core.profiling.hooks.gathered.dense_weight", closed)
    with pytest.raises(ModelError, match="leave gora out"):
        profile(build(FAMILY), samples(FAMILY, count=8))
