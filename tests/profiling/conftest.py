"""Tiny random models of several families with samples for their tasks, and the slow, obvious reference."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from attrs import frozen
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from layerlens_core.profiling.model.samples import IGNORED, Sample
from layerlens_core.values.profile import Task

VOCABULARY = 97
PAD = 1
_SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
_TOKENS = {"vocab_size": VOCABULARY, "pad_token_id": PAD, "bos_token_id": 2, "eos_token_id": 3}


@frozen
class Family:
    """A model family and its task."""

    name: str
    task: Task
    build: Callable[[], transformers.PreTrainedModel]


def _llama() -> transformers.PreTrainedModel:
    config = transformers.LlamaConfig(**_SIZES, **_TOKENS, num_key_value_heads=2)
    return transformers.LlamaForCausalLM(config)


def _bert() -> transformers.PreTrainedModel:
    return transformers.BertForMaskedLM(transformers.BertConfig(**_SIZES, **_TOKENS))


def _bert_classifier() -> transformers.PreTrainedModel:
    return transformers.BertForSequenceClassification(transformers.BertConfig(**_SIZES, **_TOKENS, num_labels=3))


def _llama_classifier() -> transformers.PreTrainedModel:
    config = transformers.LlamaConfig(**_SIZES, **_TOKENS, num_key_value_heads=2, num_labels=3)
    return transformers.LlamaForSequenceClassification(config)


def _gpt2() -> transformers.PreTrainedModel:
    config = transformers.GPT2Config(n_embd=32, n_layer=3, n_head=4, n_positions=64, **_TOKENS)
    return transformers.GPT2LMHeadModel(config)


def _opt() -> transformers.PreTrainedModel:
    config = transformers.OPTConfig(
        hidden_size=32, ffn_dim=48, num_hidden_layers=3, num_attention_heads=4, word_embed_proj_dim=32, **_TOKENS
    )
    return transformers.OPTForCausalLM(config)


def _t5() -> transformers.PreTrainedModel:
    config = transformers.T5Config(
        d_model=32, d_ff=48, d_kv=8, num_layers=2, num_heads=4, decoder_start_token_id=PAD, **_TOKENS
    )
    return transformers.T5ForConditionalGeneration(config)


def _albert() -> transformers.PreTrainedModel:
    return transformers.AlbertForMaskedLM(transformers.AlbertConfig(**_SIZES, **_TOKENS, embedding_size=16))


FAMILIES = {
    family.name: family
    for family in (
        Family("llama", "causal-lm", _llama),
        Family("bert", "masked-lm", _bert),
        Family("gpt2", "causal-lm", _gpt2),
        Family("t5", "seq2seq-lm", _t5),
        Family("albert", "masked-lm", _albert),
        Family("opt", "causal-lm", _opt),
        Family("bert-classifier", "sequence-classification", _bert_classifier),
        Family("llama-classifier", "sequence-classification", _llama_classifier),
    )
}


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> Family:
    return FAMILIES[request.param]


@pytest.fixture
def named_family() -> Callable[[str], Family]:
    return FAMILIES.__getitem__


@pytest.fixture
def build() -> Callable[..., transformers.PreTrainedModel]:
    """A seeded model whose weights are large enough that no gradient drowns in rounding."""

    def make(family: Family, dtype: torch.dtype = torch.float64) -> transformers.PreTrainedModel:
        torch.manual_seed(0)
        model = family.build().to(dtype)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.normal_(0.0, 0.2)
        return model.train()  # profiling must switch dropout off by itself

    return make


@pytest.fixture
def samples() -> Callable[..., list[Sample]]:
    """Samples of different lengths, without padding."""

    def make(family: Family, count: int = 7, seed: int = 1) -> list[Sample]:
        generator = torch.Generator().manual_seed(seed)

        def tokens(length: int) -> Tensor:
            return torch.randint(4, VOCABULARY, (length,), generator=generator)

        result = []
        for number in range(count):
            length = 5 + (3 * number) % 8
            sample: Sample = {"input_ids": tokens(length), "attention_mask": torch.ones(length, dtype=torch.long)}
            if family.task == "causal-lm":
                sample["labels"] = sample["input_ids"].clone()
                sample["labels"][: number % 3] = IGNORED
            elif family.task == "masked-lm":
                sample["labels"] = tokens(length)
                sample["labels"][torch.arange(length) % 3 != number % 3] = IGNORED
            elif family.task == "seq2seq-lm":
                sample["labels"] = tokens(3 + number % 4)
            else:
                sample["labels"] = torch.tensor(number % 3)
            result.append(sample)
        return result

    return make


@pytest.fixture
def reference() -> Callable[..., dict[str, Tensor]]:
    """Per-sample weight gradients [samples, out, in] by one plain backward pass per sample, nothing else."""

    def compute(model: transformers.PreTrainedModel, names: list[str], samples: list[Sample]) -> dict[str, Any]:
        model = model.eval().requires_grad_(True)
        modules: dict[str, nn.Module] = dict(model.named_modules())
        gradients: dict[str, list[Tensor]] = {name: [] for name in names}
        for sample in samples:
            model.zero_grad(set_to_none=True)
            _plain_loss(model, sample).backward()
            for name in names:
                weight = modules[name].weight
                gradient = weight.grad if weight.grad is not None else torch.zeros_like(weight)
                transposed = type(modules[name]).__name__ == "Conv1D"
                gradients[name].append((gradient.T if transposed else gradient).clone())
        model.zero_grad(set_to_none=True)
        return {name: torch.stack(values) for name, values in gradients.items()}

    return compute


def _plain_loss(model: transformers.PreTrainedModel, sample: Sample) -> Tensor:
    batch = {key: value[None] for key, value in sample.items()}
    labels = batch.pop("labels")
    if model.config.is_encoder_decoder:
        start = torch.full((1, 1), model.config.decoder_start_token_id)
        batch["decoder_input_ids"] = torch.cat([start, labels[:, :-1]], dim=1)
    logits = model(**batch).logits[0]
    if labels.dim() == 1:
        return cross_entropy(logits[None], labels)
    targets = labels[0]
    if "ForCausalLM" in type(model).__name__ or "LMHeadModel" in type(model).__name__:
        logits, targets = logits[:-1], targets[1:]
    return cross_entropy(logits[targets != IGNORED], targets[targets != IGNORED])
