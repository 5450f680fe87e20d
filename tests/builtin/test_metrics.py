"""The passive metrics are functions of one module's statistics, and of nothing else."""

import pytest

from layerlens_builtin.metrics import fisher, gradient_energy, weight_gradient
from layerlens_core.plugin import ModuleStatistics

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
