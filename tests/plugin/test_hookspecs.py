"""The hooks: each is specified, documented, used by our own plugin, and brings its providers."""

import ast
from pathlib import Path
from typing import Any

import pytest

import layerlens_builtin
from layerlens_core.plugin import hookspecs, registry
from layerlens_core.plugin.hookspecs import HOOKS
from layerlens_core.plugin.providers import (
    KINDS,
    AggregatorProvider,
    ExporterProvider,
    MethodProvider,
    MetricProvider,
    StrategyProvider,
)
from layerlens_core.plugin.registry import Registry
from layerlens_core.values.inventory import Layer
from plugin.handmade import plugin

OURS = ("layerlens-core", "layerlens-plugin-costbenefit")


def test_hooks_and_specs_are_the_same():
    specified = {name for name in vars(hookspecs) if hasattr(getattr(hookspecs, name), "layerlens_spec")}
    assert specified == set(HOOKS)


def test_every_kind_of_provider_has_one_hook():
    assert sorted(HOOKS.values()) == sorted(KINDS)


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_documented(hook):
    assert (getattr(hookspecs, hook).__doc__ or "").strip()


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
        ("layerlens_metrics", MetricProvider(name="own", summary="", unit="1", reduction="sum", load=Own)),
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
    loaded: Any = found.load(HOOKS[hook], "own")
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
