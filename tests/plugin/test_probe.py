"""A metric that reads what it does not declare is found out before the pass, and no other is held up."""

import pytest

from layerlens_core.errors import PluginError, ScoreError
from layerlens_core.plugin.discovery import Plugin
from layerlens_core.plugin.guard import Origin, guarded
from layerlens_core.plugin.probe import check_needs
from layerlens_core.plugin.providers import MetricProvider
from layerlens_core.plugin.registry import default
from layerlens_core.values.statistics import FIELDS

ORIGIN = Origin("metric", "own", Plugin(name="mine", distribution="layerlens-plugin-mine"))


def check(score, *needs):
    provider = MetricProvider(name="own", summary="", unit="1", load=lambda: score, needs=needs)
    check_needs(provider, guarded(ORIGIN, score), ORIGIN)


@pytest.mark.parametrize("field", FIELDS)
def test_every_field_needs_one_of_its_statistics(field):
    for statistic in FIELDS[field]:
        check(lambda statistics: getattr(statistics, field), statistic)
    with pytest.raises(PluginError) as caught:
        check(lambda statistics: getattr(statistics, field))
    assert "metric 'own' of plugin mine (layerlens-plugin-mine) reads the statistic" in str(caught.value)
    assert str(caught.value).endswith("which it does not declare; its needs are: none")
    assert any(repr(statistic) in str(caught.value) for statistic in FIELDS[field])


def test_what_is_read_by_way_of_a_property_counts_too():
    with pytest.raises(PluginError, match="'weight_gradient', which it does not declare; its needs are: sample_norms"):
        check(lambda statistics: statistics.fisher + statistics.weight_gradient, "sample_norms")


@pytest.mark.parametrize("error", [ZeroDivisionError("no such module"), ScoreError("not on this one"), SystemExit(1)])
def test_what_else_goes_wrong_on_an_imaginary_module_is_not_held_against_it(error):
    def score(statistics):
        raise error

    check(score, "sample_norms")


def test_an_interrupt_is_the_users():
    def score(statistics):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check(score)


def test_counts_and_names_are_there_for_all():
    check(lambda statistics: statistics.samples / statistics.groups * len(statistics.module) * statistics.weights)


def test_the_metrics_of_ours_declare_what_they_read():
    registry = default()
    read = [name for name, provider in registry.providers("metric").items() if not provider.active]
    assert read
    for name in read:
        check_needs(registry.get("metric", name), registry.load("metric", name), registry.origin("metric", name))
