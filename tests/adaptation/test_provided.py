"""Side modules of plugins: what they raise names method, plugin and module, and nothing is changed."""

import pytest
import torch
import transformers

import layerlens_core as ll
from layerlens_builtin.methods.adapter import METHOD
from layerlens_builtin.modules.bottleneck import Bottleneck
from layerlens_core.errors import PlanError, PluginError
from layerlens_core.plugin import MethodProvider
from layerlens_core.plugin.registry import default


@pytest.fixture(autouse=True)
def own_registry():
    """A registry of this test's own."""
    default.cache_clear()
    yield
    default.cache_clear()


@pytest.fixture
def model():
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, vocab_size=31, pad_token_id=0
    )
    return transformers.LlamaForCausalLM(config)


def fail(*_arguments):
    raise RuntimeError("a careless module")


def careless(call):
    """A bottleneck of which one call raises."""
    kind = classmethod(fail) if call in ("check", "parameters_of") else fail
    return type("Careless", (Bottleneck,), {call: kind, "child": "careless"})


def provide(module):
    ll.register(
        MethodProvider(name="boom", summary="", capacity=25, applicable=True, load=lambda: METHOD, module=module)
    )


def plan_of(model):
    data = [{"input_ids": torch.arange(1, 9)}, {"input_ids": torch.arange(3, 12)}]
    profile = ll.profile(model, data, metrics=["fisher"])
    return ll.allocate(profile, budget=ll.Budget(params="50%"), methods=["boom"], margins=False)


@pytest.mark.parametrize("call", ["check", "add", "connect", "parameters_of"])
def test_what_a_side_module_raises_names_method_plugin_and_module(model, call):
    provide(lambda: careless(call))
    plan = plan_of(model)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    with pytest.raises(PluginError) as caught:
        ll.apply(model, plan)
    assert str(caught.value).startswith("method 'boom' of plugin boom (in process) failed on model.layers.")
    assert str(caught.value).endswith(": RuntimeError: a careless module")
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert list(before) == [name for name, _ in model.named_parameters()]
    assert all(torch.equal(before[name], parameter) for name, parameter in model.named_parameters())


@pytest.mark.parametrize(
    ("module", "error", "message"),
    [
        (fail, PluginError, "method 'boom' of plugin boom \\(in process\\) failed to load its module: RuntimeError"),
        (lambda: torch.nn.Linear, PluginError, "must give a class of SideModule as its module, but gives .*Linear"),
        (lambda: "no class", PluginError, "must give a class of SideModule as its module, but gives 'no class'"),
        (None, PlanError, "the method 'boom' cannot be applied: its provider names no module"),
    ],
)
def test_a_module_that_is_none_is_refused(model, module, error, message):
    provide(module)
    plan = plan_of(model)
    with pytest.raises(error, match=message):
        ll.apply(model, plan)
