"""Resized embeddings, trained tokens and heads are loaded as PEFT loads them, or refused by name."""

import json

import pytest
import torch
import transformers
from peft import PeftModel, get_peft_model

import zoo
from layerlens_core.adaptation.apply import apply
from layerlens_core.adaptation.config import peft_config
from layerlens_core.adaptation.load import load
from layerlens_core.errors import FileError, LayerLensError, ModelError
from layerlens_core.inspection.inspect import inspect
from zoo.plans import plan_with
from zoo.probing import perturb, snapshot

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore:`is_gradient_check:FutureWarning")

ROWS = 101
BATCH = {"input_ids": torch.tensor([[5, 97, 98, 99, 7]])}


@pytest.fixture(params=["untied", "tied"])
def base(request, tmp_path):
    """Makes the base model, as its directory holds it or with rows for new tokens."""
    tied = {"tie_word_embeddings": request.param == "tied"}
    zoo.find("llama").with_config(**tied).build().save_pretrained(tmp_path / "base")

    def make(rows=ROWS):
        model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base")
        torch.manual_seed(5)
        if rows != model.config.vocab_size:
            model.resize_token_embeddings(rows, mean_resizing=False)
        return model

    return make


PLANS = {
    "lora": {"model.layers.0": ("lora", 2), "model.layers.1": ("lora", 3)},
    "mixed": {"model.layers.0": ("lora", 2), "model.layers.1": ("adapter", 3), "model.layers.2": ("prefix", 4)},
}


@pytest.fixture(params=PLANS)
def plan(request, base):
    return plan_with(base(), PLANS[request.param])


def logits(model):
    with torch.no_grad():
        return model.eval()(**BATCH).logits


def refused(model, folder, error, message):
    before = snapshot(model)
    with pytest.raises(error, match=message):
        load(model, folder)
    assert snapshot(model) == before


def test_resized_embeddings_come_with_the_adapter(base, plan, tmp_path):
    wrapped = apply(base(), plan)
    perturb(wrapped)
    # Rows that were moved, so that the base's own do not do.
    with torch.no_grad():
        wrapped.get_input_embeddings().weight.add_(0.1)
        wrapped.get_output_embeddings().weight.add_(0.1)
    wrapped.save_pretrained(tmp_path / "adapter")
    expected = logits(wrapped)
    for trainable in (False, True):
        assert torch.equal(logits(load(base(), tmp_path / "adapter", trainable=trainable)), expected)
    plain = PeftModel.from_pretrained(base(), tmp_path / "adapter")
    torch.testing.assert_close(logits(plain), expected, rtol=1e-3, atol=1e-3)
    refused(base(97), tmp_path / "adapter", ModelError, r"with 101 rows in lm_head.*has 97; .*embeddings\(101\)")


@pytest.mark.parametrize("name", ["t5", "bert", "roberta", "gpt2", "bert-classifier", "xlnet"])
def test_resized_embeddings_of_other_names_come_too(name, tmp_path):
    """Shared ones, heads with a bias, heads inside of other modules, no head for tokens at all."""
    family = zoo.find(name)
    family.build().save_pretrained(tmp_path / "base")

    def make(rows=ROWS):
        model = getattr(transformers, family.architecture).from_pretrained(tmp_path / "base").eval()
        model.resize_token_embeddings(rows)
        return model

    wrapped = apply(make(), plan_with(make(), {inspect(make()).layers[0].name: ("lora", 2)})).eval()
    perturb(wrapped)
    with torch.no_grad():
        wrapped.get_input_embeddings().weight.add_(0.1)
        expected = wrapped(**family.batch()).logits
        wrapped.save_pretrained(tmp_path / "adapter")
        loaded = load(make(), tmp_path / "adapter", trainable=True).eval()
        assert torch.equal(loaded(**family.batch()).logits, expected)
    refused(make(97), tmp_path / "adapter", ModelError, r"with 101 rows in .*has 97; .*embeddings\(101\)")


def test_embeddings_are_saved_and_refused_by_their_rows_if_asked(base, plan, tmp_path):
    wrapped = apply(base(97), plan)
    perturb(wrapped)
    wrapped.save_pretrained(tmp_path / "adapter", save_embedding_layers=True)
    model = base(97)
    assert torch.equal(
        load(model, tmp_path / "adapter").get_input_embeddings().weight, wrapped.get_input_embeddings().weight
    )
    refused(base(), tmp_path / "adapter", ModelError, r"with 97 rows in lm_head.*has 101; .*embeddings\(97\)")


@pytest.mark.parametrize("heads", [["embed_tokens", "lm_head"], ["lm_head"], ["embed_tokens"]])
def test_embeddings_that_train_in_full(base, plan, tmp_path, heads):
    config = peft_config(plan, inspect(base()))
    config.modules_to_save = heads
    wrapped = get_peft_model(base(), config)
    perturb(wrapped)
    wrapped.save_pretrained(tmp_path / "adapter")
    assert torch.equal(logits(load(base(), tmp_path / "adapter")), logits(wrapped))
    refused(base(97), tmp_path / "adapter", ModelError, r"with 101 rows in .*has 97; .*embeddings\(101\)")


def test_embeddings_that_train_in_full_and_stay_tied(base, plan, tmp_path):
    config = peft_config(plan, inspect(base()))
    config.modules_to_save, config.ensure_weight_tying = ["embed_tokens"], True
    wrapped = get_peft_model(base(), config)
    perturb(wrapped)
    wrapped.save_pretrained(tmp_path / "adapter")
    assert torch.equal(logits(load(base(), tmp_path / "adapter")), logits(wrapped))


@pytest.mark.parametrize("tokens", [[97, 98, 99], {"embed_tokens": [98]}, {"lm_head": [3, 97], "embed_tokens": [97]}])
def test_tokens_that_train_alone(base, plan, tmp_path, tokens):
    config = peft_config(plan, inspect(base()))
    config.trainable_token_indices = tokens
    try:
        wrapped = get_peft_model(base(), config)
    except LayerLensError:
        raise
    except Exception as error:
        pytest.skip(f"PEFT cannot build it: {error}")
    perturb(wrapped)
    wrapped.save_pretrained(tmp_path / "adapter")
    assert torch.equal(logits(load(base(), tmp_path / "adapter")), logits(wrapped))
    refused(base(97), tmp_path / "adapter", ModelError, r"(trains token|rows in).*has 97.*embeddings\(")


def test_heads_and_tokens_that_the_file_lacks_are_named(base, plan, tmp_path):
    apply(base(97), plan).save_pretrained(tmp_path / "adapter")
    path = tmp_path / "adapter" / "adapter_config.json"
    config = json.loads(path.read_text())
    for changes, error, message in (
        ({"trainable_token_indices": [5]}, FileError, "lacks the tokens of trainable_token_indices"),
        ({"modules_to_save": ["embed_tokens"]}, ModelError, r"lacks model\.embed_tokens\.weight"),
        ({"modules_to_save": ["score"]}, ModelError, "trains score in full, which this LlamaForCausalLM lacks"),
    ):
        path.write_text(json.dumps({**config, **changes}))
        refused(base(97), tmp_path / "adapter", error, message)


def test_a_head_of_another_size_is_refused_without_advice_about_embeddings(tmp_path):
    family = zoo.find("bert-classifier")
    model = family.build()
    apply(model, plan_with(model, {"bert.encoder.layer.0": ("lora", 2)})).save_pretrained(tmp_path)
    other = family.with_config(num_labels=5).build()
    refused(other, tmp_path, ModelError, r"holds classifier\.(bias|weight) of \[3.*\], but in this model it is \[5")
