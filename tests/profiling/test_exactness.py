"""A small part of the sweep of tests/benchmarks/exactness.py: classes that stand for what others do differently.

Each runs in a process of its own, since its forward passes are in float64 from then on.
"""

import pytest
import torch
import transformers

import zoo
from sweep.table import tables
from sweep.truth import truth
from sweep.wide import Wide
from sweep.workers import alone

#: By task; why each is here.
CLASSES = {
    "causal-lm": {
        "LlamaForCausalLM": "norms in float32",
        "CTRLLMHeadModel": "changes its embeddings in place",
        "CodeGenForCausalLM": "a configuration without pad token",
        "GitForCausalLM": "reads images, or text alone",
        "XLNetLMHeadModel": "time first",
        "ZambaForCausalLM": "two modules hold one weight",
    },
    "masked-lm": {
        "BertForMaskedLM": "the plainest",
        "FNetForMaskedLM": "mixes tokens, padding too",
        "LongformerForMaskedLM": "windows, time first",
        "YosoForMaskedLM": "hashes, padding too",
        "PerceiverForMaskedLM": "logits of every position that it has",
    },
    "seq2seq-lm": {
        "T5ForConditionalGeneration": "one width for all",
        "BlenderbotForConditionalGeneration": "shifts labels in its forward pass alone",
        "FSMTForConditionalGeneration": "time first, and labels read otherwise",
        "EncoderDecoderModel": "two models in one",
    },
    "sequence-classification": {
        "BartForSequenceClassification": "reads the end of the sentence",
        "CanineForSequenceClassification": "no token embeddings",
        "GPT2ForSequenceClassification": "Conv1D, and the last token",
    },
    "token-classification": {
        "BertForTokenClassification": "one label a token",
        "LayoutLMv3ForTokenClassification": "boxes beside the tokens",
    },
    "image-classification": {
        "ViTForImageClassification": "patches",
        "SwinForImageClassification": "windows",
        "LevitForImageClassification": "keeps a part of its graph in evaluation mode",
        "ResNetForImageClassification": "no linear module in its layers",
        "PerceiverForImageClassificationLearned": "latents that all samples share",
    },
}


@pytest.mark.parametrize(
    ("task", "name"), [(task, name) for task, names in CLASSES.items() for name in names], ids=lambda value: value
)
def test_a_class_is_scored_exactly_or_refused_by_name(task, name):
    for result in alone(task, name):
        assert result["status"] in ("exact", "refused"), result


def test_the_reference_says_where_a_model_is_narrower_than_float64():
    model = zoo.build("llama", dtype=torch.float64).requires_grad_(True)
    ids = torch.arange(8, 16)[None]
    plain, wide = Wide(), Wide()
    plain.widens = False
    for mode in (plain, wide):
        with mode:
            model(input_ids=ids)
    assert "to" in plain.narrow
    assert wide.narrow == set()
    assert "to" in wide.widened


def test_the_reference_is_the_models_own_loss_and_gradient():
    model = zoo.build("llama", dtype=torch.float64)
    ids = torch.arange(8, 16)
    sample = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
    found = truth(model, [sample], "causal-lm")
    loss = model(input_ids=ids[None], labels=ids[None]).loss
    loss.backward()
    name, module = next((n, m) for n, m in model.named_modules() if isinstance(m, torch.nn.Linear))
    assert found.loss == pytest.approx(loss.item(), rel=1e-6)
    assert found.fisher[name] == pytest.approx(module.weight.grad.square().sum().item(), rel=1e-5)


def test_a_table_counts_each_class_once_by_its_worst_pattern():
    of = {"task": "masked-lm", "name": "BertForMaskedLM", "scored": 2, "unscored": {"never called": 1}}
    of |= {"worst": 0.0, "narrow": []}
    results = [
        {**of, "pattern": "square", "status": "exact", "exact": 2, "wrong": [], "error": ""},
        {**of, "pattern": "ragged", "status": "wrong", "exact": 1, "wrong": [["a", 1.0, 2.0]], "error": ""},
    ]
    row = next(line for line in tables(results).splitlines() if line.startswith("| masked-lm"))
    assert [cell.strip() for cell in row.split("|")[3:8]] == ["1", "0", "0", "1", "0"]
    assert "| 2 | never called |" in tables(results)


def test_the_classes_of_this_file_are_in_the_mappings():
    assert all(hasattr(transformers, name) for names in CLASSES.values() for name in names)
