"""Classes that do not say what embeds their inputs, or which part of them reads text, are inspected all the same."""

import pytest
import torch
import transformers

from layerlens_core.inspection.accessors import input_embeddings, output_embeddings, text_config
from layerlens_core.inspection.inspect import inspect
from layerlens_core.profiling.model.weights import digest


def convnext():
    config = transformers.ConvNextConfig(hidden_sizes=[16, 32], depths=[2, 2], num_stages=2, num_labels=3)
    return transformers.ConvNextForImageClassification(config)


def test_a_class_without_embeddings_is_inspected():
    model = convnext()
    with pytest.raises(NotImplementedError):
        model.get_input_embeddings()
    assert input_embeddings(model) is None
    assert output_embeddings(model) is None
    inventory = inspect(model)
    assert len(inventory.modules) == 8
    assert [head.name for head in inventory.heads] == ["classifier"]
    assert digest(model) == digest(model)


def test_a_class_that_answers_neither_is_inspected(monkeypatch):
    model = convnext()

    def ask_attribute(*_args):
        raise AttributeError("lm_head")

    def ask(*_args, **_options):
        raise ValueError("Multiple valid text configs were found in the model config")

    monkeypatch.setattr(type(model.config), "get_text_config", ask)
    monkeypatch.setattr(type(model), "get_output_embeddings", ask_attribute)
    assert text_config(model) is model.config
    assert inspect(model).modules


def test_what_a_language_model_says():
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(n_embd=8, n_layer=1, n_head=2, vocab_size=11))
    assert input_embeddings(model) is model.transformer.wte
    assert output_embeddings(model) is model.lm_head
    assert isinstance(model.lm_head, torch.nn.Linear)
