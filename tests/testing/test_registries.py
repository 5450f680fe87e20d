"""A registry of a test's own: what comes along and what is given, and afterwards all as before."""

import layerlens_core as ll
from layerlens_core.plugin.discovery import OURS
from layerlens_core.plugin.registry import default
from layerlens_core.testing import isolated_registry


def select(candidates, limits, context):
    return [unit.decide("none", reason="never") for unit in candidates.units]


def test_inside_there_is_what_comes_along_and_what_is_given():
    before = {kind: default().names(kind) for kind in ("strategy", "metric")}
    assert "cost-benefit" in before["strategy"]
    with isolated_registry(ll.strategy("mine", select)) as registry:
        assert registry is default()
        assert registry.names("strategy") == ["budget", "mine", "tempered", "threshold", "uniform"]
        assert registry.names("metric") == before["metric"]
        assert {plugin.distribution for plugin in registry.plugins} == {OURS, "in process"}
        registry.register(ll.strategy("another", select))
    assert {kind: default().names(kind) for kind in before} == before


def test_a_built_in_provider_makes_room_for_one_of_its_name():
    with isolated_registry(ll.strategy("uniform", select)) as registry:
        assert registry.plugin_of("strategy", "uniform").distribution == "in process"
    assert default().plugin_of("strategy", "uniform").distribution == OURS


def test_all_is_as_before_after_an_error_too():
    before = default().names("strategy")
    try:
        with isolated_registry(ll.strategy("mine", select)):
            raise KeyError
    except KeyError:
        pass
    assert default().names("strategy") == before
