"""Every call into a plugin: what a provider's function raises names it, its plugin and what was at hand."""

from pathlib import Path

import pytest

from layerlens_core.allocation.utilities import aggregate
from layerlens_core.errors import BudgetError, LayerLensError, PluginError
from layerlens_core.plugin import (
    AggregatorProvider,
    CandidateSet,
    Certificate,
    Context,
    ExporterProvider,
    Inventory,
    Layer,
    Limits,
    LinearModule,
    MethodProvider,
    MetricProvider,
    ModuleStatistics,
    RawScores,
    Selection,
    StrategyProvider,
    hookimpl,
    strategy,
)
from layerlens_core.plugin.discovery import Plugin
from layerlens_core.plugin.guard import Origin, blamed
from layerlens_core.plugin.registry import Registry

STATISTICS = ModuleStatistics(module="layers.0.q", weights=6, samples=4, groups=2, group_size=2, sum_squared_norm=0.0)
MODULE = LinearModule(name="layers.0.q", layer="layers.0", kind="linear", in_features=3, out_features=2)
LAYER = Layer(name="layers.0", modules=(MODULE,))


def divide(*_arguments):
    """What a careless plugin does."""
    return 1 / 0


def divide_later(*_arguments):
    """The same, once the first of its results is asked for."""
    yield 1 / 0


class Careless:
    """A method of which one call raises."""

    notch, ceiling, half, penalty, updates_weights = 1, 1.0, 8.0, 1.0, False

    def __init__(self, call):
        if call is not None:
            setattr(self, call, divide_later if call == "targets" else divide)

    def targets(self, layer):
        return []

    def largest(self, layer):
        return 4


def registry_of(*providers):
    """A registry in which one plugin provides these."""
    hooks = {f"layerlens_{kind}": hookimpl(lambda providers=providers: providers) for kind in _kinds(providers)}
    found = Registry()
    found.register(type("Careless", (), {name: staticmethod(hook) for name, hook in hooks.items()})())
    return found


def _kinds(providers):
    names = {
        MetricProvider: "metrics",
        AggregatorProvider: "aggregators",
        StrategyProvider: "strategies",
        MethodProvider: "methods",
        ExporterProvider: "exporters",
    }
    return {names[type(provider)] for provider in providers}


def load(provider, kind):
    return registry_of(provider).load(kind, provider.name)


def metric(function, **options):
    return MetricProvider(name="boom", summary="", unit="1", reduction="sum", load=lambda: function, **options)


def method(call):
    return MethodProvider(name="boom", summary="", capacity=1, applicable=True, load=lambda: Careless(call))


#: What is called -> how, and what the message says of who and where.
CALLS = {
    "a metric": (
        lambda: load(metric(divide), "metric")(STATISTICS),
        "metric 'boom' of plugin Careless (in process) failed on layers.0.q: ZeroDivisionError: division by zero",
    ),
    "an active metric": (
        lambda: load(metric(divide, active=True), "metric")("a profile"),
        "metric 'boom' of plugin Careless (in process) failed: ZeroDivisionError: division by zero",
    ),
    "an aggregator": (
        lambda: load(AggregatorProvider(name="boom", summary="", load=lambda: divide), "aggregator")({}, {}),
        "aggregator 'boom' of plugin Careless (in process) failed: ZeroDivisionError: division by zero",
    ),
    "an aggregator, lazily": (
        lambda: load(AggregatorProvider(name="boom", summary="", load=lambda: divide_later), "aggregator")({}, {}),
        "aggregator 'boom' of plugin Careless (in process) failed: ZeroDivisionError: division by zero",
    ),
    "a strategy": (
        lambda: load(strategy("boom", divide), "strategy")(CandidateSet(units=(), methods=()), Limits(), Context()),
        "strategy 'boom' of plugin Careless (in process) failed: ZeroDivisionError: division by zero",
    ),
    "a strategy, lazily": (
        lambda: load(strategy("boom", divide_later), "strategy")("units", "limits", "context"),
        "strategy 'boom' of plugin Careless (in process) failed: ZeroDivisionError: division by zero",
    ),
    "a strategy that decides nothing": (
        lambda: load(strategy("boom", lambda *_: None), "strategy")("units", "limits", "context"),
        "strategy 'boom' of plugin Careless (in process) failed: TypeError: 'NoneType' object is not iterable",
    ),
    "a method's places": (
        lambda: load(method("targets"), "method").targets(LAYER),
        "method 'boom' of plugin Careless (in process) failed on layers.0: ZeroDivisionError: division by zero",
    ),
    "a method's largest size": (
        lambda: load(method("largest"), "method").largest(LAYER),
        "method 'boom' of plugin Careless (in process) failed on layers.0: ZeroDivisionError: division by zero",
    ),
    "a method that is none": (
        lambda: load(
            MethodProvider(name="boom", summary="", capacity=1, applicable=True, load=lambda: object()), "method"
        ),
        "method 'boom' of plugin Careless (in process) failed: "
        "AttributeError: 'object' object has no attribute 'notch'",
    ),
    "an exporter": (
        lambda: load(ExporterProvider(name="boom", summary="", load=lambda: divide), "exporter")("a request"),
        "exporter 'boom' of plugin Careless (in process) failed: ZeroDivisionError: division by zero",
    ),
    "loading": (
        lambda: load(ExporterProvider(name="boom", summary="", load=divide), "exporter"),
        "exporter 'boom' of plugin Careless (in process) failed to load: ZeroDivisionError: division by zero",
    ),
    "what is loaded, where it is no function": (
        lambda: load(ExporterProvider(name="boom", summary="", load=lambda: Path("x")), "exporter"),
        "exporter 'boom' of plugin Careless (in process) must load a function, but loads PosixPath",
    ),
}


@pytest.mark.parametrize("call", CALLS)
def test_what_a_plugin_raises_names_it_and_what_was_at_hand(call):
    run, message = CALLS[call]
    with pytest.raises(PluginError) as caught:
        run()
    assert str(caught.value) == message
    if "Error: " in message:
        assert type(caught.value.__cause__).__name__ == message.split("Error: ")[0].split()[-1] + "Error"


@pytest.mark.parametrize(
    "error",
    [BudgetError("too small"), KeyboardInterrupt(), MemoryError(), type("OutOfMemoryError", (Exception,), {})()],
)
def test_what_is_no_fault_of_the_plugin_passes_as_it_is(error):
    def raises(*_arguments):
        raise error

    with pytest.raises(type(error)) as caught:
        load(strategy("mine", raises), "strategy")("units", "limits", "context")
    assert caught.value is error


def test_a_plugin_that_exits_does_not_end_the_program():
    with pytest.raises(PluginError, match=r"strategy 'mine' .* failed: SystemExit: 3"):
        load(strategy("mine", lambda *_: exit(3)), "strategy")("units", "limits", "context")


def test_an_aggregator_is_named_through_the_core_too():
    inventory = Inventory(architecture="Tiny", model_type="tiny", parameters=6, layers=(LAYER,))
    scores = RawScores(metric="m", unit="1", granularity="module", values={"layers.0.q": 1.0}, reduction="sum")
    combine = load(AggregatorProvider(name="boom", summary="", load=lambda: divide), "aggregator")
    with pytest.raises(LayerLensError, match="aggregator 'boom' of plugin Careless"):
        aggregate([scores], inventory, combine=combine, aggregator="boom")


def test_a_selection_whose_decisions_fail_half_way_is_the_strategys_fault():
    def decisions():
        yield "a"
        raise ValueError("no second")

    def select(*_arguments):
        return Selection(decisions=decisions(), certificate=Certificate(value=1.0, bound=1.0))

    with pytest.raises(PluginError, match=r"strategy 'mine' .* failed: ValueError: no second"):
        load(strategy("mine", select), "strategy")("units", "limits", "context")


def test_what_was_done_is_said_in_the_callers_words():
    origin = Origin("method", "own", Plugin(name="mine", distribution="layerlens-plugin-mine"))
    with (
        pytest.raises(PluginError, match=r"method 'own' of plugin mine .* cannot be built on L0: ValueError: odd"),
        blamed(origin, on="L0", does="cannot be built"),
    ):
        raise ValueError("odd")


def test_what_is_guarded_still_does_what_it_did():
    assert load(metric(lambda statistics: 2.5), "metric")(STATISTICS) == 2.5
    assert load(strategy("mine", lambda *_: iter("ab")), "strategy")(1, 2, 3) == ("a", "b")
    proven = Selection(decisions=iter("ab"), certificate=Certificate(value=1.0, bound=2.0))
    found = load(strategy("mine", lambda *_: proven), "strategy")(1, 2, 3)
    assert (found.decisions, found.certificate) == (("a", "b"), proven.certificate)
    guarded = load(method(None), "method")
    assert (guarded.notch, guarded.half, guarded.targets(LAYER), guarded.largest(LAYER)) == (1, 8.0, (), 4)
