"""Discovery: each plugin is loaded alone, in sorted order, and what goes wrong with one is its own cause."""

import importlib

import pytest

import layerlens_core as ll
from layerlens_core.errors import PluginError
from layerlens_core.plugin import registry
from layerlens_core.plugin.discovery import place_of
from layerlens_core.plugin.hookspecs import hookimpl
from layerlens_core.plugin.providers import StrategyProvider
from layerlens_core.plugin.registry import Registry
from plugin.handmade import nothing, plugin, rank_two_for_the_best, unused


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


def test_a_hook_of_a_later_layerlens_may_be_marked_optional():
    mixed = plugin(layerlens_strategies=lambda: [ll.strategy("mine", rank_two_for_the_best)])
    type(mixed).layerlens_dreams = staticmethod(hookimpl(optionalhook=True)(lambda: unused()))
    ll.register(mixed)
    assert "mine" in registry.default().names("strategy")


def test_where_a_plugin_failed_is_told_unless_our_own_words_say_all(tmp_path):
    source = tmp_path / "careless.py"
    source.write_text("first = 1\nsecond = first / 0\n", encoding="utf-8")
    with pytest.raises(ZeroDivisionError) as caught:
        exec(compile(source.read_text(encoding="utf-8"), str(source), "exec"))
    assert place_of(caught.value) == f"{source}:2"
    assert place_of(PluginError("it implements no hook")) == ""
    assert place_of(ValueError("never raised")) == ""


def test_where_is_a_line_that_somebody_can_open():
    with pytest.raises(ModuleNotFoundError) as caught:
        importlib.import_module("nothing_of_this_name")
    assert "frozen" not in place_of(caught.value)
