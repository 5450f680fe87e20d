"""Runs that were made as the command line makes them follow from their files, whatever was asked for."""

import attrs
import pytest
from auditing.made import make_run, profile_of

from layerlens_core import tracing
from layerlens_core.allocation.allocate import allocate
from layerlens_core.auditing.audit import audit
from layerlens_core.plugin.providers import MethodProvider
from layerlens_core.plugin.registry import Registry

ASKED = {
    "default": {},
    "threshold": {"strategy": "threshold"},
    "thresholds of its own": {"strategy": "threshold", "options": {"quantiles": "0.5"}},
    "budget": {"strategy": "budget", "methods": "lora,adapter"},
    "by layer": {"strategy": "budget", "granularity": "layer"},
    "cost-benefit": {"strategy": "cost-benefit"},
    "uniform": {"strategy": "uniform"},
    "two bounds": {"budget": ["params=r=4", "memory=1TiB"]},
    "of three methods": {"strategy": "budget", "methods": "lora,adapter,prefix", "penalties": {"adapter": 1.25}},
    "weights": {"weights": {"weight_gradient": 1, "fisher": 2}, "normalizer": "rank"},
    "measured gains": {"strategy": "budget", "methods": "lora,adapter", "gains": {"lora": (1, 8), "adapter": (1, 2)}},
    "with margins": {"strategy": "budget", "budget": ["params=r=2", "memory=1TiB"], "margins": True},
    "without margins": {"strategy": "budget", "margins": False},
    "below rank one": {"budget": "params=r=0.25"},
}


@pytest.mark.parametrize("model", ["bert", "llama"])
@pytest.mark.parametrize("asked", ASKED)
def test_a_run_follows(tmp_path, model, asked):
    given = {"budget": "params=r=2", **ASKED[asked]}
    make_run(tmp_path, profile_of(model), vectors=asked in ("default", "below rank one"), compared=True, **given)
    found = audit(tmp_path)
    assert found.findings == ()
    assert found.ok
    assert found.ulps == 0


def test_a_method_that_is_offered_by_default_and_attaches_nowhere_is_not_asked_for(tmp_path):
    registry = Registry.discover()
    prefix = registry.get("method", "prefix")
    registry.register(MethodProvider(name="aside", summary="", capacity=11, applicable=True, load=prefix.load))
    profile = profile_of("llama")
    layers = tuple(attrs.evolve(layer, attentions=()) for layer in profile.inventory.layers)
    profile = attrs.evolve(profile, inventory=attrs.evolve(profile.inventory, layers=layers))
    with tracing.to_file(tmp_path, run_id="0123456789ab"):
        plan = allocate(profile, strategy="budget", budget="params=r=2", registry=registry)
    profile.save(tmp_path)
    plan.save(tmp_path)
    assert plan.request.methods == ("none", "lora")
    assert audit(tmp_path, registry=registry).findings == ()
