"""Layers that repeat one another are not run, and what is found is the same."""

from contextlib import nullcontext

import pytest

import zoo
from layerlens_core.estimating import passing
from layerlens_core.estimating.passing import pass_shapes
from layerlens_core.estimating.repeats import shortened
from layerlens_core.estimating.weightless import build
from layerlens_core.inspection.inspect import inspect
from zoo.configured import configuration

DEEP = {
    "llama": {"num_hidden_layers": 7},
    "bert": {"num_hidden_layers": 6},
    "gpt2": {"n_layer": 6},
    "t5": {"num_layers": 6},
    "qwen3_moe": {"num_hidden_layers": 6},
    "albert": {},
    "gemma2": {"num_hidden_layers": 6},
}
#: How many are not run: of T5's six a half is in the first, whose attention has a table of positions.
NOT_RUN = {"llama": 4, "bert": 3, "gpt2": 3, "t5": 4, "qwen3_moe": 3, "albert": 0, "gemma2": 0}


def kept(name, dtype):
    built = build(configuration(name, **DEEP[name]), dtype=dtype)
    return pass_shapes(built.model, inspect(built.model), built.task, batch=2, length=9)


@pytest.mark.parametrize(("name", "dtype"), [
    ("llama", "bfloat16"), ("bert", "float32"), ("gpt2", "bfloat16"), ("t5", "float32"), ("qwen3_moe", "float32")
])  # fmt: skip
def test_what_is_kept_is_what_all_layers_keep_that_are_run(name, dtype, monkeypatch):
    found = kept(name, dtype)
    monkeypatch.setattr(passing, "shortened", lambda model, inventory: nullcontext({}))
    assert found == kept(name, dtype)


@pytest.mark.parametrize("name", DEEP)
def test_like_layers_in_a_row_are_not_run(name):
    built = build(configuration(name, **DEEP[name]))
    inventory = inspect(built.model)
    with shortened(built.model, inventory) as stands_for:
        assert len(stands_for) == NOT_RUN[name]
        assert all(second.endswith((".1", ".2")) for second in stands_for.values())
        replaced = [name for name in stands_for if "forward" in vars(built.model.get_submodule(name))]
        assert replaced == list(stands_for)
    assert not any("forward" in vars(built.model.get_submodule(layer.name)) for layer in inventory.layers)


def test_layers_of_other_shapes_or_settings_are_run():
    model = zoo.find("llama").with_config(num_hidden_layers=6).build()
    inventory = inspect(model)
    with shortened(model, inventory) as stands_for:
        assert len(stands_for) == 3
    model.model.layers[2].self_attn.scaling = 3.0
    with shortened(model, inventory) as stands_for:
        assert not stands_for
