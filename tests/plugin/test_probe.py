"""A metric that reads a statistic that it did not declare fails before the pass."""

import re

import pytest

from layerlens_core.errors import DataError, PluginError
from layerlens_core.plugin import STATISTICS, MetricProvider
from layerlens_core.plugin.probe import check_needs
from layerlens_core.plugin.registry import Registry
from layerlens_core.values.statistics import FIELDS, ModuleStatistics

#: What a metric reads -> statistics of which any one gathers it.
READS = {
    **FIELDS,
    "fisher": {"sample_norms", "gradient_norms"},
    "fisher_standard_error": {"sample_norms", "gradient_norms"},
    "fisher_interval": {"sample_norms", "gradient_norms"},
    "gradient_energy": {"gradient_norms"},
    "gradient_energy_standard_error": {"gradient_norms"},
    "gradient_energy_interval": {"gradient_norms"},
    "mean_gradient_squared_norm": {"gradient_norms"},
    "weight_gradient": {"weight_gradient"},
    "weight_gradient_standard_error": {"weight_gradient"},
}


def checked(score, *needs):
    """Hold a metric to what it declares, as profiling does."""
    found = Registry()
    found.register(MetricProvider(name="mine", summary="", unit="1", needs=needs, reduction="sum", load=lambda: score))
    check_needs(found.get("metric", "mine"), found.load("metric", "mine"), found.origin("metric", "mine"))


@pytest.mark.parametrize("statistic", STATISTICS)
@pytest.mark.parametrize("read", READS)
def test_each_field_belongs_to_the_statistics_that_gather_it(read, statistic):
    if statistic in READS[read]:
        checked(lambda statistics: getattr(statistics, read), statistic)
        return
    with pytest.raises(PluginError) as caught:
        checked(lambda statistics: getattr(statistics, read), statistic)
    assert re.fullmatch(
        r"metric 'mine' of plugin mine \(in process\) reads \w+ of the statistic ('\w+'|'\w+' or '\w+'), which it does "
        rf"not declare; its needs are: {statistic}",
        str(caught.value),
    )
    assert all(f"'{name}'" in str(caught.value) for name in READS[read])


def test_every_field_that_may_be_missing_is_known():
    always = {"module", "weights", "samples", "groups", "group_size"}
    fields = {field.name for field in ModuleStatistics.__attrs_attrs__}
    assert fields - always == set(FIELDS)


def test_what_is_always_there_may_be_read():
    checked(lambda statistics: statistics.weights / statistics.samples + len(statistics.module))


def test_nothing_declared_and_something_read():
    with pytest.raises(PluginError, match="its needs are: none"):
        checked(lambda statistics: statistics.fisher)


@pytest.mark.parametrize("error", [ZeroDivisionError, DataError, ValueError])
def test_what_else_goes_wrong_on_an_imaginary_module_is_not_held_against_a_metric(error):
    def score(statistics):
        raise error("an imaginary module is too small")

    checked(score)


def test_a_metric_that_catches_all_errors_is_found_out_as_well():
    def score(statistics):
        try:
            return statistics.fisher
        except Exception:
            return 0.0

    with pytest.raises(PluginError, match="reads sum_squared_norm of the statistic 'gradient_norms' or 'sample_norms'"):
        checked(score, "weight_gradient")


def test_an_interrupt_is_the_users():
    def score(statistics):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        checked(score)
