"""What a task asks of labels, and how padding is chosen."""

import pytest
import torch
import transformers
from torch.nn.functional import binary_cross_entropy_with_logits

import zoo
from layerlens_core.errors import DataError, ModelError
from layerlens_core.profiling.model.decoder_inputs import decoder_inputs
from layerlens_core.profiling.model.losses import per_sample_losses
from layerlens_core.profiling.profile import profile
from layerlens_core.profiling.samples.sample import collate
from layerlens_core.profiling.samples.tasks import check_samples, pad_token_id, task_of
from zoo import encoder_decoders

SEQUENCE = {"input_ids": torch.tensor([5, 6, 7]), "attention_mask": torch.ones(3, dtype=torch.long)}


def labelled(*labels):
    return [{**SEQUENCE, "labels": torch.tensor(label)} for label in labels]


def test_each_class_has_the_task_that_transformers_lists_it_under():
    assert task_of(zoo.build("vit")) == "image-classification"
    assert task_of(zoo.build("bert-classifier")) == "sequence-classification"
    config = transformers.BertConfig(**zoo.find("bert").config)
    assert task_of(transformers.BertForTokenClassification(config)) == "token-classification"
    with pytest.raises(ModelError, match="the task of BertModel is not known"):
        task_of(transformers.BertModel(config))


@pytest.mark.parametrize(
    ("name", "task", "data", "match"),
    [
        ("bert-classifier", "sequence-classification", labelled(0, -1), "sample 1 has the label -1, .*leave them out"),
        ("bert-classifier", "sequence-classification", labelled(0, 1, 3), "sample 2 has the label 3, .* 3 outputs"),
        ("llama", "causal-lm", [{**SEQUENCE, "input_ids": torch.tensor([5, 97, 2])}], "holds token 97"),
        ("llama", "causal-lm", [{**SEQUENCE, "input_ids": torch.tensor([5, -200, 2])}], "holds token -200"),
        ("llama", "causal-lm", labelled([5, 6, 99]), "sample 0 has the label 99"),
        ("bert", "masked-lm", labelled([0.5, 1.0, 2.0]), "labels are then class indices"),
    ],
)
def test_tokens_and_labels_that_the_model_does_not_have_are_named(name, task, data, match):
    with pytest.raises(DataError, match=match):
        check_samples(zoo.build(name), data, task)


def test_numbers_are_checked_too():
    several = zoo.find("bert-classifier").with_config(problem_type="multi_label_classification").build()
    check_samples(several, labelled([0.0, 1.0, 1.0]), "sequence-classification")
    with pytest.raises(DataError, match="needs as many"):
        check_samples(several, labelled([0.0, 1.0]), "sequence-classification")
    with pytest.raises(DataError, match="from 0 to 1"):
        check_samples(several, labelled([0.0, 1.0, 2.0]), "sequence-classification")
    one = zoo.find("bert-classifier").with_config(num_labels=1).build()
    check_samples(one, labelled(4, 2.5), "sequence-classification")
    with pytest.raises(DataError, match="finite"):
        check_samples(one, labelled(float("nan")), "sequence-classification")


@pytest.mark.parametrize(
    ("config", "labels"),
    [
        ({"num_labels": 1}, torch.tensor([4.0, 2.5])),
        ({"num_labels": 3, "problem_type": "regression"}, torch.tensor([[1.0, 2, 3], [0, 0, 1]])),
        ({"num_labels": 3, "problem_type": "multi_label_classification"}, torch.tensor([[1.0, 0, 1], [0, 0, 1]])),
        ({"num_labels": 3}, torch.tensor([2, 0])),
    ],
)
def test_losses_are_those_of_transformers(config, labels):
    model = zoo.find("bert-classifier").with_config(**config).build().eval()
    data = [{**SEQUENCE, "labels": label} for label in labels]
    losses = per_sample_losses(model, collate(data, 1), "sequence-classification")
    own = [model(**{key: value[None] for key, value in sample.items()}).loss for sample in data]
    assert torch.allclose(losses, torch.stack(own).detach(), atol=1e-6)
    found = profile(model, data, metrics=("fisher",), micro_batch=2)
    assert found.loss == pytest.approx(float(losses.mean()), rel=1e-5)


def test_several_classes_at_once_are_the_mean_over_them():
    model = zoo.find("bert-classifier").with_config(problem_type="multi_label_classification").build().eval()
    (sample,) = labelled([1.0, 0.0, 1.0])
    loss = per_sample_losses(model, collate([sample], 1), "sequence-classification")
    logits = model(**{key: value[None] for key, value in SEQUENCE.items()}).logits[0]
    assert float(loss) == pytest.approx(float(binary_cross_entropy_with_logits(logits, sample["labels"])))


@pytest.mark.parametrize("pad", [-1, 97, None])
def test_padding_is_a_token_that_the_model_has(pad):
    model = zoo.build("llama")
    model.config.pad_token_id = pad
    assert pad_token_id(model, "causal-lm", 4) == 0


def test_classifiers_that_look_for_padding_must_know_it():
    model = zoo.build("llama-classifier")
    model.config.pad_token_id = None
    assert pad_token_id(model, "sequence-classification", 1) == 0
    with pytest.raises(ModelError, match="no padding token"):
        pad_token_id(model, "sequence-classification", 2)


@pytest.mark.parametrize("name", [model.name for model in encoder_decoders.MODELS])
def test_the_decoder_reads_what_the_model_itself_would_give_it(name):
    model = zoo.build(name).eval()
    inputs = {"input_ids": torch.tensor([[5, 6, 7, 3]]), "attention_mask": torch.ones(1, 4, dtype=torch.long)}
    labels = torch.tensor([[9, 8, 3]])
    read = decoder_inputs(model, inputs, labels)
    with torch.no_grad():
        expected = model(**inputs, labels=labels).logits
        assert torch.equal(model(**inputs, decoder_input_ids=read).logits, expected)


def test_what_a_model_raises_is_told_in_a_line():
    model = zoo.build("gpt2")
    data = [{"input_ids": torch.full((2000,), 5)}] * 2
    with pytest.raises(ModelError, match=r"GPT2LMHeadModel cannot be run on these samples \(input_ids .*2000"):
        profile(model, data, metrics=("fisher",))
