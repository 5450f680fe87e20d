"""The registry: what is registered works like what is installed, and every refusal says what to do."""

import ast
from pathlib import Path

import pytest

import layerlens_builtin
import layerlens_core as ll
from layerlens_core.errors import PluginError
from layerlens_core.plugin import discovery, hookspecs, registry
from layerlens_core.plugin.discovery import describe
from layerlens_core.plugin.hookspecs import HOOKS, hookimpl
from layerlens_core.plugin.providers import (
    KINDS,
    AggregatorProvider,
    ExporterProvider,
    MethodProvider,
    MetricProvider,
    StrategyProvider,
)
from layerlens_core.plugin.registry import Registry
from layerlens_core.values.inventory import Inventory, Layer, LinearModule
from layerlens_core.values.scores import RawScores

COSTBENEFIT = "layerlens-plugin-costbenefit"
OURS = ("layerlens-core", COSTBENEFIT)


def profile(*scores: float) -> ll.Profile:
    """Layers L0, L1 … of one linear module each, scored so."""
    layers = tuple(
        Layer(
            name=f"L{i}",
            modules=(LinearModule(name=f"L{i}.w", layer=f"L{i}", kind="linear", in_features=16, out_features=16),),
        )
        for i in range(len(scores))
    )
    values = {layer.name: score for layer, score in zip(layers, scores, strict=True)}
    return ll.Profile(
        inventory=Inventory(architecture="Toy", model_type="toy", parameters=10_000, layers=layers),
        task="causal-lm",
        scores=(RawScores(metric="fisher", unit="1", granularity="layer", values=values),),
        statistics=(),
        data="none",
        samples=1,
        loss=0.0,
    )


def rank_two_for_the_best(candidates, limits, context):
    best = max(candidates.units, key=lambda unit: unit.utility)
    return [
        unit.decide("lora", 2, reason="best") if unit is best else unit.decide("none", reason="not the best")
        for unit in candidates.units
    ]


def unused(*_arguments):
    raise AssertionError("nobody asked for this")


def nothing():
    return []


def of_a_model(model):
    return []


@pytest.fixture(autouse=True)
def own_registry(monkeypatch):
    """A registry of this test's own, found anew."""
    monkeypatch.delenv(discovery.DISABLE_VARIABLE, raising=False)
    registry.default.cache_clear()
    yield
    registry.default.cache_clear()


@pytest.fixture
def installed(monkeypatch):
    """Makes exactly these modules or objects the plugins that are installed, beside the built-in one."""

    class Point:
        """What the registry uses of an entry point."""

        def __init__(self, name, plugin):
            self.name, self.plugin = name, plugin
            distribution = "layerlens-core" if plugin is layerlens_builtin else f"layerlens-plugin-{name}"
            self.dist = type("Distribution", (), {"name": distribution, "version": "1.0"})
            self.imported = False

        def load(self):
            self.imported = True
            if isinstance(self.plugin, BaseException):
                raise self.plugin
            return self.plugin

    def install(**plugins):
        points = {name: Point(name, plugin) for name, plugin in plugins.items()}
        builtin = Point("builtin", layerlens_builtin)
        monkeypatch.setattr(discovery, "entry_points", lambda group: [*points.values(), builtin])
        return points

    return install


def plugin(**hooks):
    """A plugin object: marked hooks by name."""
    return type("Plugin", (), {name: staticmethod(hookimpl(function)) for name, function in hooks.items()})()


# --- in process ---------------------------------------------------------------------------------------------------


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


def test_a_hook_of_a_later_layerlens_may_be_marked_optional():
    mixed = plugin(layerlens_strategies=lambda: [ll.strategy("mine", rank_two_for_the_best)])
    type(mixed).layerlens_dreams = staticmethod(hookimpl(optionalhook=True)(lambda: unused()))
    ll.register(mixed)
    assert "mine" in registry.default().names("strategy")


@pytest.mark.parametrize("record", [StrategyProvider, MetricProvider])
def test_one_string_is_not_taken_for_several_names(record):
    """A comma is easily forgotten in ``("alpha",)``, and ``alpha`` would be five options of a letter each."""
    field = {"options": "alpha"} if record is StrategyProvider else {"needs": "gradient_norms", "unit": "1"}
    with pytest.raises(TypeError, match="several names"):
        record(name="mine", summary="", load=unused, **field)


# --- asking for what is not there ---------------------------------------------------------------------------------


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


# --- loading ------------------------------------------------------------------------------------------------------


class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (SystemExit(0), "SystemExit: 0"),
        (SystemExit(), "SystemExit"),
        (ImportError("two\n  lines"), "ImportError: two lines"),
        (Unprintable(), "Unprintable"),
        (GeneratorExit(), "GeneratorExit"),
        (PluginError("ours speaks for itself"), "ours speaks for itself"),
    ],
)
def test_whatever_a_plugin_raises_on_import_is_its_cause_and_the_next_is_loaded(installed, error, cause):
    installed(bad=error, good=plugin(layerlens_strategies=lambda: [ll.strategy("mine", unused)]))
    found = registry.default()
    assert {each.name: (each.status, each.cause) for each in found.plugins if each.name != "builtin"} == {
        "bad": ("failed", cause),
        "good": ("loaded", ""),
    }
    assert "mine" in found.names("strategy")
    assert "threshold" in found.names("strategy")


@pytest.mark.parametrize("where", ["import", "load"])
def test_an_interrupt_is_the_users(installed, where):
    def interrupted():
        raise KeyboardInterrupt

    if where == "import":
        installed(slow=KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            registry.default()
    else:
        ll.register(StrategyProvider(name="slow", summary="", load=interrupted))
        with pytest.raises(KeyboardInterrupt):
            registry.default().load("strategy", "slow")


def test_a_generator_that_breaks_half_way_gives_nothing(installed):
    def strategies():
        yield ll.strategy("first", unused)
        raise ValueError("no second")

    installed(half=plugin(layerlens_strategies=strategies))
    assert "first" not in registry.default().names("strategy")
    assert registry.default().plugins[-1].cause == "ValueError: no second"


@pytest.mark.parametrize("error", [ImportError("no such library"), SystemExit(0)])
def test_a_provider_that_fails_to_load_names_its_plugin_and_cause(error):
    def load():
        raise error

    ll.register(StrategyProvider(name="late", summary="", load=load))
    with pytest.raises(PluginError) as caught:
        ll.allocate(profile(1.0, 2.0), strategy="late")
    assert str(caught.value) == f"strategy 'late' of plugin late (in process) failed to load: {describe(error)}"
    assert caught.value.__cause__ is error


def test_what_is_blocked_is_not_imported(installed):
    points = installed(one=plugin(layerlens_metrics=nothing), two=plugin(layerlens_metrics=nothing))
    found = Registry.discover(blocked=["One"])
    assert (points["one"].imported, points["two"].imported) == (False, True)
    assert [each.status for each in found.plugins if each.name == "one"] == ["blocked"]


def test_discovery_does_not_depend_on_the_order_of_installation(installed):
    names = ["zebra", "ant", "mole"]
    orders = []
    for order in (names, names[::-1]):
        installed(**{name: plugin(layerlens_metrics=nothing) for name in order})
        orders.append([each.name for each in Registry.discover().plugins if each.name in names])
    assert orders == [sorted(names), sorted(names)]


# --- the hooks themselves -----------------------------------------------------------------------------------------


def test_hooks_and_specs_are_the_same():
    specified = {name for name in vars(hookspecs) if hasattr(getattr(hookspecs, name), "layerlens_spec")}
    assert specified == set(HOOKS)


def test_every_kind_of_provider_has_one_hook():
    assert sorted(HOOKS.values()) == sorted(KINDS)


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_documented(hook):
    assert (getattr(hookspecs, hook).__doc__ or "").strip()


@pytest.mark.parametrize("kind", KINDS)
def test_every_record_is_documented(kind):
    assert (KINDS[kind].__doc__ or "").strip()


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_used_by_the_built_in_plugin(hook):
    tree = ast.parse(Path(layerlens_builtin.__file__).read_text(encoding="utf-8"))
    assert hook in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert list(getattr(layerlens_builtin, hook)())


class Own:
    """What every provider below loads: a function, and a method without a place."""

    notch, ceiling, half, penalty, updates_weights = 3, 1.0, 8.0, 1.0, False

    def __call__(self, *arguments):
        return 1.0, 2.0

    def targets(self, layer):
        return []

    def largest(self, layer):
        return 4


@pytest.mark.parametrize(
    ("hook", "provider"),
    [
        ("layerlens_metrics", MetricProvider(name="own", summary="", unit="1", load=Own)),
        ("layerlens_aggregators", AggregatorProvider(name="own", summary="", load=Own)),
        ("layerlens_strategies", StrategyProvider(name="own", summary="", load=Own)),
        (
            "layerlens_methods",
            MethodProvider(name="own", summary="", capacity=1, applicable=True, load=Own),
        ),
        ("layerlens_exporters", ExporterProvider(name="own", summary="", load=Own)),
    ],
)
def test_every_hook_brings_its_providers(hook, provider):
    found = Registry()
    found.register(plugin(**{hook: lambda: [provider]}))
    assert found.providers(HOOKS[hook]) == {"own": provider}
    loaded = found.load(HOOKS[hook], "own")
    if hook == "layerlens_methods":
        assert (loaded.notch, loaded.targets(Layer(name="L0", modules=()))) == (3, ())
    else:
        assert list(loaded("anything")) == [1.0, 2.0]


def test_every_hook_is_tried_above():
    tried = {hook for hook, _ in test_every_hook_brings_its_providers.pytestmark[0].args[1]}
    assert tried == set(HOOKS)


@pytest.mark.parametrize("kind", KINDS)
def test_everything_of_ours_that_is_listed_loads(kind):
    found = registry.default()
    ours = [name for name in found.names(kind) if found.plugin_of(kind, name).distribution in OURS]
    assert ours
    for name in ours:
        if not getattr(found.get(kind, name), "active", False):  # those import torch
            assert found.load(kind, name) is not None
