"""Passive metrics are functions of one module's statistics alone; all metrics score models that the kit lacks."""

import math

import pytest
import torch

import zoo
from layerlens_builtin.metrics import fisher, gradient_energy, weight_gradient
from layerlens_core.plugin import ModuleStatistics
from layerlens_core.plugin.registry import default
from layerlens_core.profiling.profile import profile
from layerlens_core.values.profile import Profile
from zoo.profiled import build, samples

STATISTICS = ModuleStatistics(
    module="L0.w", weights=6, samples=5, groups=2, group_size=2, sum_squared_norm=20.0, sum_fourth_power=100.0,
    sum_group_mean_squared_norm=3.0, sum_group_mean_fourth_power=5.0, sum_grouped_squared_norm=16.0,
    sum_weight_gradient=0.5, sum_squared_weight_gradient=0.25,
)  # fmt: skip


@pytest.mark.parametrize(
    ("metric", "score"), [(fisher, 20.0 / 5), (gradient_energy, 3.0 / 2), (weight_gradient, 0.5 / 2)]
)
def test_a_metric_is_the_mean_of_what_it_sums(metric, score):
    assert metric.score(STATISTICS) == score


@pytest.mark.parametrize("name", ["t5", "albert"])
@pytest.mark.filterwarnings("ignore:.*profile with more samples")
def test_every_metric_scores_every_module_and_the_profile_is_read_again(name, tmp_path):
    family = zoo.find(name)
    metrics = default().names("metric")
    run = profile(build(family, torch.float32), samples(family, count=12), metrics=metrics)
    modules, layers = ({each.name for each in of} for of in (run.inventory.modules, run.inventory.layers))
    assert [scores.metric for scores in run.scores] == metrics
    for scores in run.scores:
        assert set(scores.values) == (layers if scores.metric == "proxy_eval" else modules)
        assert all(map(math.isfinite, scores.values.values()))
        assert len(set(scores.values.values())) > 1 or len(scores.values) == 1
    drawn = {"adalora", "candidate_gradient", "loss_change", "proxy_eval"}
    assert {scores.metric for scores in run.scores if scores.errors} == drawn
    run.save(tmp_path)
    assert Profile.load(tmp_path) == run
