"""The registry: what is registered works like what is installed, and every refusal says what to do."""

import pytest

import layerlens_core as ll
from layerlens_core.errors import PluginError
from layerlens_core.plugin import discovery, registry
from layerlens_core.plugin.discovery import describe
from layerlens_core.plugin.hookspecs import hookimpl
from layerlens_core.plugin.providers import AggregatorProvider, StrategyProvider
from plugin.handmade import nothing, plugin, profile, rank_two_for_the_best, unused

COSTBENEFIT = "layerlens-plugin-costbenefit"


def of_a_model(model):
    return []


def test_a_custom_strategy_is_one_line():
    ll.register(ll.strategy("mine", rank_two_for_the_best))
    plan = ll.allocate(profile(1.0, 5.0, 2.0), strategy="mine")
    assert plan.request.strategy == "mine"
    assert [(decision.method, decision.size) for decision in plan.decisions] == [("none", 0), ("lora", 2), ("none", 0)]
    assert plan.parameters == 2 * (16 + 16)


def test_a_custom_strategy_is_held_to_the_contract():
    ll.register(ll.strategy("lazy", lambda candidates, limits, context: []))
    with pytest.raises(ll.LayerLensError, match="'lazy' decided nothing for L0, L1"):
        ll.allocate(profile(1.0, 2.0), strategy="lazy")


def test_a_custom_strategy_refuses_options_that_it_does_not_declare():
    ll.register(ll.strategy("mine", rank_two_for_the_best))
    with pytest.raises(ll.LayerLensError, match="'mine' has no option 'temperature'; it takes: none"):
        ll.allocate(profile(1.0, 2.0), strategy="mine", options={"temperature": 1})


def test_a_whole_plugin_can_be_registered():
    def combine(columns, weights):
        return [2.0 * value for value in next(iter(columns.values()))]

    def aggregators():
        return [AggregatorProvider(name="twice", summary="twice the first column", load=lambda: combine)]

    def strategies():
        yield ll.strategy("mine", rank_two_for_the_best)

    ll.register(plugin(layerlens_aggregators=aggregators, layerlens_strategies=strategies))
    plan = ll.allocate(profile(1.0, 3.0), strategy="mine", aggregator="twice")
    assert [decision.utility for decision in plan.decisions] == [0.5, 1.5]
    assert registry.default().plugin_of("aggregator", "twice").distribution == registry.IN_PROCESS


@pytest.mark.parametrize("name", ["threshold", "mine"])
def test_a_name_that_is_taken_is_refused_and_the_holder_stays(name):
    ll.register(ll.strategy("mine", rank_two_for_the_best))
    before = registry.default().get("strategy", name)
    holder = registry.default().plugin_of("strategy", name)
    with pytest.raises(PluginError) as caught:
        ll.register(ll.strategy(name, unused))
    assert f"strategy {name!r} is already provided by {holder}" in str(caught.value)
    assert registry.default().get("strategy", name) is before


def test_a_plugin_with_one_taken_name_adds_nothing():
    def strategies():
        yield ll.strategy("free", unused)
        yield ll.strategy("threshold", unused)

    with pytest.raises(PluginError, match="'threshold' is already provided by builtin"):
        ll.register(plugin(layerlens_strategies=strategies))
    assert "free" not in registry.default().names("strategy")


def test_one_name_may_serve_two_kinds():
    ll.register(ll.strategy("fisher", rank_two_for_the_best))
    assert ll.allocate(profile(1.0, 2.0), strategy="fisher").request.strategy == "fisher"


def test_a_name_that_two_plugins_contest_cannot_be_registered_either(installed):
    rival = plugin(layerlens_strategies=lambda: [ll.strategy("contested", unused)])
    installed(one=rival, two=plugin(layerlens_strategies=lambda: [ll.strategy("contested", unused)]))
    with pytest.raises(PluginError, match=r"one \(layerlens-plugin-one\) and two \(layerlens-plugin-two\)"):
        ll.register(ll.strategy("contested", rank_two_for_the_best))


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (rank_two_for_the_best, "'rank_two_for_the_best' cannot be registered: it implements no hook"),
        (plugin(layerlens_metrics=lambda: None), "layerlens_metrics must give .*MetricProvider.* returned None"),
        (
            plugin(layerlens_strategies=lambda: ll.strategy("bare", unused)),
            "layerlens_strategies must give an iterable .* returned one StrategyProvider",
        ),
        (plugin(layerlens_metrics=lambda: [ll.strategy("no-metric", unused)]), "but gave StrategyProvider"),
        (plugin(layerlens_metrics=lambda: ["fisher2"]), "but gave str"),
        (plugin(layerlens_metrics=of_a_model), r"layerlens_metrics.* of_a_model\(model\)"),
        (plugin(layerlens_metrcs=nothing), "layerlens_metrcs is no hook.* Did you mean 'layerlens_metrics'"),
        (plugin(strategies=nothing), "strategies is no hook.* Did you mean 'layerlens_strategies'"),
        (
            type("Half", (), {"layerlens_metrics": lambda self: [], "layerlens_methods": hookimpl(lambda self: [])})(),
            "layerlens_metrics is not marked with @layerlens_core.hookimpl",
        ),
        (
            plugin(layerlens_strategies=lambda: [ll.strategy("same", unused), ll.strategy("same", unused)]),
            "it provides strategy same twice",
        ),
        (plugin(layerlens_strategies=lambda: [ll.strategy("Not A Name", unused)]), "Not A Name"),
    ],
)
def test_a_plugin_that_breaks_the_contract_cannot_be_registered(what, message):
    before = list(registry.default().plugins)
    with pytest.raises(PluginError, match=message):
        ll.register(what)
    assert registry.default().plugins == before


@pytest.mark.parametrize(
    ("kind", "name", "nearest"),
    [
        ("strategy", "treshold", "threshold"),
        ("metric", "gradient-energy", "gradient_energy"),
        ("method", "lorra", "lora"),
        ("aggregator", "weighted_mean", "weighted-mean"),
        ("strategy", "cost_benefit", "cost-benefit"),
    ],
)
def test_an_unknown_name_lists_what_there_is_and_the_nearest(kind, name, nearest):
    with pytest.raises(PluginError) as caught:
        registry.default().get(kind, name)
    assert f"no {kind} is named {name!r}; there are: {', '.join(registry.default().names(kind))}." in str(caught.value)
    assert str(caught.value).endswith(f"Did you mean {nearest!r}?")


def test_a_name_that_is_near_to_nothing_gets_no_hint():
    with pytest.raises(PluginError) as caught:
        registry.default().get("strategy", "zzzzzz")
    assert "Did you mean" not in str(caught.value)


def test_cost_benefit_is_installed_here():
    assert registry.default().plugin_of("strategy", "cost-benefit").distribution == COSTBENEFIT


def test_cost_benefit_that_is_not_installed_names_the_distribution(installed):
    installed()
    with pytest.raises(PluginError) as caught:
        ll.allocate(profile(1.0, 2.0), strategy="cost-benefit")
    assert str(caught.value).endswith(f"It comes with {COSTBENEFIT}: pip install {COSTBENEFIT}")
    assert caught.value.exit_code == 2


def test_cost_benefit_that_is_blocked_says_so_and_not_to_install_it(monkeypatch):
    monkeypatch.setenv(discovery.DISABLE_VARIABLE, "costbenefit")
    with pytest.raises(PluginError) as caught:
        ll.allocate(profile(1.0, 2.0), strategy="cost-benefit")
    assert f"costbenefit ({COSTBENEFIT}) blocked: blocked by name" in str(caught.value)
    assert "pip install" not in str(caught.value)


def test_cost_benefit_that_is_broken_gives_the_cause_and_not_to_install_it(installed):
    installed(costbenefit=ModuleNotFoundError("No module named 'numbers2'"))
    with pytest.raises(PluginError) as caught:
        registry.default().get("strategy", "cost-benefit")
    assert f"costbenefit ({COSTBENEFIT}) failed: ModuleNotFoundError: No module named 'numbers2'" in str(caught.value)
    assert "pip install" not in str(caught.value)


def test_a_contested_name_names_both_rivals_and_the_way_out(installed):
    contested = AggregatorProvider(name="contested", summary="", load=unused)
    installed(**{name: plugin(layerlens_aggregators=lambda: [contested]) for name in ("one", "two", "three")})
    with pytest.raises(PluginError) as caught:
        registry.default().get("aggregator", "contested")
    for part in ("layerlens-plugin-one", "layerlens-plugin-two", "layerlens-plugin-three", discovery.DISABLE_VARIABLE):
        assert part in str(caught.value)


def test_a_plugin_that_takes_a_built_in_name_fails_both(installed):
    installed(greedy=plugin(layerlens_strategies=lambda: [ll.strategy("threshold", unused)]))
    with pytest.raises(PluginError, match=r"provided twice, by builtin.* and greedy \(layerlens-plugin-greedy\)"):
        registry.default().get("strategy", "threshold")


@pytest.mark.parametrize("error", [ImportError("no such library"), SystemExit(0)])
def test_a_provider_that_fails_to_load_names_its_plugin_and_cause(error):
    def load():
        raise error

    ll.register(StrategyProvider(name="late", summary="", load=load))
    with pytest.raises(PluginError) as caught:
        ll.allocate(profile(1.0, 2.0), strategy="late")
    assert str(caught.value) == f"strategy 'late' of plugin late (in process) failed to load: {describe(error)}"
    assert caught.value.__cause__ is error


def test_what_was_registered_here_is_replaced_or_taken_away_again():
    own = registry.Registry.discover()
    before = own.names("strategy"), len(own.plugins)
    first, second = (
        ll.strategy("mine", lambda *_: [], summary="first"),
        ll.strategy("mine", lambda *_: [], summary="second"),
    )
    own.register(first)
    with pytest.raises(PluginError, match=r"choose another name, or take its place with replace=True"):
        own.register(second)
    own.register(second, replace=True)
    assert own.get("strategy", "mine").summary == "second"
    assert len(own.plugins) == before[1] + 1
    own.unregister(first)  # by its kind and name
    assert (own.names("strategy"), len(own.plugins)) == before
    with pytest.raises(PluginError, match="was not registered in this process: nothing has this name"):
        own.unregister(first)


def test_what_is_installed_is_neither_replaced_nor_taken_away():
    own = registry.Registry.discover()
    rival = ll.strategy("uniform", lambda *_: [])
    with pytest.raises(PluginError, match=r"already provided by .*choose another name$"):
        own.register(rival, replace=True)
    with pytest.raises(PluginError, match="was not registered in this process: it is of"):
        own.unregister(rival)
    assert own.get("strategy", "uniform") is not rival
