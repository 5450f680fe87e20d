"""A forward pass of shapes keeps what one of values keeps."""

import pytest

import zoo
from layerlens_core.errors import ModelError
from layerlens_core.estimating import passing
from layerlens_core.estimating.passing import _inputs, pass_shapes
from layerlens_core.estimating.weightless import build
from layerlens_core.inspection.inspect import inspect
from layerlens_core.profiling.costs.activations import measure_activations
from zoo.configured import configuration

#: One of each way to write a layer, and those whose pass asks for values: of masks, positions or the last token.
FAMILIES = (
    "llama-classifier", "bert-classifier", "gemma3", "bloom", "mpt", "opt", "albert", "deberta", "mixtral", "mbart",
)  # fmt: skip


def measured(name, *, checkpointing=False, length=12):
    """As profiling measures it, on values."""
    model = zoo.build(name, spread=None)
    batch = _inputs(model, zoo.find(name).task, 4, length)
    given = [{key: value[row] for key, value in batch.items()} for row in range(4)]
    if checkpointing:
        model.activation_checkpointing_enable()
    return measure_activations(model, inspect(model), given, zoo.find(name).task)


def predicted(name, length=12, batch=4):
    built = build(configuration(name))
    return pass_shapes(built.model, inspect(built.model), built.task, batch=batch, length=length)


@pytest.mark.parametrize("name", FAMILIES)
def test_shapes_keep_what_values_keep(name):
    found, truth = predicted(name), measured(name)
    for field in ("through", "adapted", "head"):
        assert getattr(found.plain, field) == pytest.approx(getattr(truth, field), rel=1e-9)
    for layer, size in found.plain.through.items():
        assert sum(found.kinds[layer].values()) == pytest.approx(size)


@pytest.mark.parametrize("name", ["llama", "bert", "t5"])
def test_shapes_keep_what_values_keep_with_checkpointing(name):
    found, truth = predicted(name).checkpointed, measured(name, checkpointing=True)
    assert found == truth


def test_masks_that_would_take_much_memory_have_shapes_alone(monkeypatch):
    full = predicted("llama", batch=1)
    monkeypatch.setattr(passing, "_MASK", 100)
    made = predicted("llama", batch=4)
    sizes = [sum(found.plain.through.values()) for found in (full, made)]
    assert sizes[0] <= sizes[1] <= 1.2 * sizes[0], "the mask that is then kept is all there is to it"


def test_kinds_are_attention_feed_forward_experts_and_the_rest():
    assert set(predicted("llama").kinds["model.layers.0"]) == {"attention", "feed-forward", "norms and residuals"}
    assert set(predicted("mixtral").kinds["model.layers.0"]) == {"attention", "experts", "norms and residuals"}


def test_a_pass_that_needs_values_is_refused_without_a_log(capfd):
    with pytest.raises(ModelError, match="SwitchTransformersForConditionalGeneration keeps while training"):
        predicted("switch")
    assert "Traceback" not in capfd.readouterr().err
