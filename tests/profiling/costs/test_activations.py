"""What a forward pass keeps for the backward pass, measured on the model."""

import gc
import json
import weakref

import attrs
import pytest
import torch

import zoo
from layerlens_core.inspection.inspect import inspect
from layerlens_core.profiling.costs.activations import measure_activations
from layerlens_core.profiling.profile import profile
from layerlens_core.profiling.samples.batches import split
from layerlens_core.values.costs import Activations
from layerlens_core.values.profile import Profile
from zoo.wide import build, samples

pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning",
    "ignore:fan_in_fan_out is set to False:UserWarning",
)


def test_activations_are_the_same_every_time_and_survive_a_file(tmp_path):
    model = build("bert")
    data = samples(4, length=16)
    first, second = (profile(model, data, metrics=("fisher",)) for _ in range(2))
    assert first.activations == second.activations
    assert isinstance(first.activations, Activations)
    assert all(type(x) is float and x > 0 for x in first.activations.through.values())
    assert first.activations.through.keys() == {layer.name for layer in first.inventory.layers}
    first.save(tmp_path)
    assert json.loads((tmp_path / "profile.json").read_text())
    assert Profile.load(tmp_path).activations == first.activations


def test_a_classifier_keeps_as_much_a_layer_and_little_after_it():
    bert = zoo.find("bert-wide").with_config(num_labels=3)
    model = attrs.evolve(bert, architecture="BertForSequenceClassification").build(spread=None).train()
    data = [{**sample, "labels": torch.tensor(1)} for sample in samples()]
    classifier = measure_activations(model, inspect(model), data, "sequence-classification")
    body = build("bert", "sdpa")
    language_model = measure_activations(body, inspect(body), samples(), "masked-lm")
    assert list(classifier.through.values()) == pytest.approx(list(language_model.through.values()), rel=0.02)
    assert model.config.problem_type is None
    assert classifier.head < language_model.head


def test_checkpointing_keeps_the_layers_inputs_alone():
    model = build("llama", "sdpa")
    full = measure_activations(model, inspect(model), samples(), "causal-lm")
    model.activation_checkpointing_enable()
    checkpointed = measure_activations(model, inspect(model), samples(), "causal-lm")
    assert set(checkpointed.through.values()) == {128 * 4.0}
    assert set(checkpointed.adapted.values()) == {0.0}
    largest = max(full.through[name] + full.adapted[name] for name in full.through)
    assert checkpointed.head >= max(full.head, largest)


def test_measuring_activations_frees_what_it_kept():
    model = zoo.build("llama")
    seen = []
    hook = model.model.layers[0].register_forward_hook(
        lambda _module, _args, output: seen.append(weakref.ref(output if torch.is_tensor(output) else output[0]))
    )
    row = torch.arange(3, 19)
    measure_activations(
        model, inspect(model), [{"input_ids": row, "attention_mask": torch.ones_like(row)}], "causal-lm"
    )
    hook.remove()
    gc.collect()
    assert seen
    assert all(reference() is None for reference in seen), "a layer's output is still alive"


@pytest.mark.parametrize("name", ["t5", "opt"])
def test_every_layer_keeps_something_whatever_embeds_its_input(name):
    family = zoo.find(name)  # T5's encoder and decoder have tables of their own beside the shared one
    model, inputs = family.build(), family.inputs(labels=True)
    found = measure_activations(model, inspect(model), split([inputs], family.task), family.task)
    assert all(size > 0 for size in found.through.values())


def test_a_forward_pass_that_fails_is_not_counted_beside_the_one_in_its_place():
    model, data = build("llama", "sdpa"), samples()
    plain = measure_activations(model, inspect(model), data, "causal-lm")

    def refuse(*args, **kwargs):
        raise ValueError("Expected input batch_size (0) to match target batch_size (12).")

    model.loss_function = refuse  # as GIT's own, which cannot compute a loss of text without images
    other = measure_activations(model, inspect(model), data, "causal-lm")
    assert other.through == plain.through
    assert other.adapted == plain.adapted
