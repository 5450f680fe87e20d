"""Calls into plugins: what a provider raises is told with its kind, name, plugin and the layer or module at hand."""

import pytest

from layerlens_core.errors import BudgetError, PluginError
from layerlens_core.plugin.discovery import Plugin
from layerlens_core.plugin.guard import GuardedMethod, Origin, blamed, guarded
from layerlens_core.values.candidates import Target
from layerlens_core.values.decisions import Certificate, Selection
from layerlens_core.values.inventory import Layer
from layerlens_core.values.statistics import ModuleStatistics

PLUGIN = Plugin(name="mine", distribution="layerlens-plugin-mine")
LAYER = Layer(name="L0", modules=())
STATISTICS = ModuleStatistics(module="L0.w", weights=1, samples=1, groups=1, group_size=1)


def origin(kind):
    return Origin(kind, "own", PLUGIN)


def raises(error):
    def call(*_arguments):
        raise error

    return call


class OutOfMemoryError(RuntimeError):
    """By this name torch says that the device's memory is full."""


@pytest.mark.parametrize("kind", ["metric", "aggregator", "strategy", "exporter"])
@pytest.mark.parametrize("error", [ZeroDivisionError("by zero"), SystemExit(3), GeneratorExit()])
def test_whatever_a_provider_raises_names_it_and_keeps_the_cause(kind, error):
    with pytest.raises(PluginError) as caught:
        guarded(origin(kind), raises(error))("anything")
    assert str(caught.value).startswith(f"{kind} 'own' of plugin mine (layerlens-plugin-mine) failed")
    assert type(error).__name__ in str(caught.value)
    assert caught.value.__cause__ is error


def test_a_metric_that_fails_names_the_module():
    with pytest.raises(PluginError, match=r"metric 'own' of plugin mine .* failed on L0\.w: KeyError: 'k'"):
        guarded(origin("metric"), raises(KeyError("k")))(STATISTICS)


def test_a_metric_that_reads_what_it_did_not_declare_names_both():
    with pytest.raises(PluginError, match=r"failed on L0\.w: .*the statistic 'sample_norms' was not gathered"):
        guarded(origin("metric"), lambda statistics: statistics.fisher)(STATISTICS)


@pytest.mark.parametrize(
    "error", [BudgetError("too small"), KeyboardInterrupt(), MemoryError(), OutOfMemoryError("device")]
)
def test_what_is_meant_or_nobodys_fault_passes_as_it_is(error):
    with pytest.raises(type(error)) as caught:
        guarded(origin("strategy"), raises(error))()
    assert caught.value is error


def test_what_is_given_lazily_fails_within_the_call():
    def lazy(*_arguments):
        yield 1.0
        raise ValueError("no second")

    for kind in ("aggregator", "strategy"):
        with pytest.raises(PluginError, match="no second"):
            guarded(origin(kind), lazy)({}, {})
    with pytest.raises(PluginError, match="no second"):
        guarded(
            origin("strategy"), lambda *_: Selection(decisions=lazy(), certificate=Certificate(value=1.0, bound=1.0))
        )()


def test_results_come_whole():
    assert guarded(origin("aggregator"), lambda columns, weights: (value for value in (1, 2)))({}, {}) == [1.0, 2.0]
    assert guarded(origin("strategy"), lambda: iter("ab"))() == ("a", "b")
    proven = Selection(decisions=iter("ab"), certificate=Certificate(value=1.0, bound=2.0))
    made = guarded(origin("strategy"), lambda: proven)()
    assert (made.decisions, made.certificate) == (("a", "b"), proven.certificate)
    assert guarded(origin("metric"), lambda statistics: statistics.samples)(STATISTICS) == 1


def test_what_is_no_function_is_refused():
    with pytest.raises(PluginError, match=r"strategy 'own' .* must load a function, but loads int"):
        guarded(origin("strategy"), 5)


class Own:
    """A method whose places and sizes a test replaces."""

    notch, ceiling, half, penalty, updates_weights = 2, 1.0, 8.0, 1.5, False

    def targets(self, layer):
        yield Target(name=f"{layer.name}.w", fixed=0, per_size=3)

    def largest(self, layer):
        return 4


def test_a_method_is_guarded_call_by_call():
    method = guarded(origin("method"), Own())
    assert isinstance(method, GuardedMethod)
    numbers = (method.notch, method.ceiling, method.half, method.penalty, method.updates_weights)
    assert numbers == (2, 1.0, 8.0, 1.5, False)
    assert method.targets(LAYER) == (Target(name="L0.w", fixed=0, per_size=3),)
    assert method.largest(LAYER) == 4


@pytest.mark.parametrize("name", ["targets", "largest"])
def test_a_method_that_fails_names_the_layer(name, monkeypatch):
    monkeypatch.setattr(Own, name, raises(LookupError("no such shape")))
    with pytest.raises(PluginError, match=r"method 'own' of plugin mine .* failed on L0: LookupError: no such shape"):
        getattr(guarded(origin("method"), Own()), name)(LAYER)


def test_a_method_without_its_numbers_is_refused_as_it_is_loaded(monkeypatch):
    monkeypatch.delattr(Own, "half")
    with pytest.raises(PluginError, match=r"method 'own' .* failed: AttributeError: .*'half'"):
        guarded(origin("method"), Own())


def test_what_a_provider_does_is_said_in_the_callers_words():
    with (
        pytest.raises(PluginError, match=r"method 'own' .* cannot be built on L0: ValueError: odd"),
        blamed(origin("method"), on="L0", does="cannot be built"),
    ):
        raise ValueError("odd")
