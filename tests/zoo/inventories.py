"""What inspecting a model must find, written down by hand for many of the zoo."""

from collections.abc import Mapping
from typing import Literal

import transformers
from attrs import evolve, field, frozen

from layerlens_core.values.inventory import AttentionModule, Head, Layer, LinearModule

_HEAD = "part of the task head, which trains in full"
_LM_HEAD = "the language-model head"
#: Where GPT-J and CodeGen joined transformers' attention interface.
_SINCE_5_24 = tuple(map(int, transformers.__version__.split(".")[:2])) >= (5, 24)


@frozen(kw_only=True)
class Expected:
    """The inventory that a model must have, and how it behaves.

    layers, outside, heads, skipped: the inventory; no layers where only behaviour is checked.
    norms: ``pre`` where a layer adds to its input, ``post`` where each sum is normalised before the next.
    attends: whether its attention goes through transformers' attention interface.
    peft_task: PEFT's task type, where PEFT can count this model under one.
    """

    layers: tuple[Layer, ...] = ()
    outside: Mapping[str, tuple[int, int]] = field(factory=dict)
    heads: tuple[Head, ...] = ()
    skipped: Mapping[str, str] = field(factory=dict)
    norms: Literal["pre", "post"] = "pre"
    attends: bool = True
    peft_task: str | None = None


def _layer(name: str, text: str) -> Layer:
    """A layer from lines ``module in out [*]``, the star for residual writers, and ``attention: Hq Hkv dk dv``."""
    modules, attentions = [], []
    for line in text.strip().splitlines():
        where, *rest = line.split()
        if where.endswith(":"):
            query_heads, key_value_heads, key_dim, value_dim = map(int, rest)
            attentions.append(
                AttentionModule(
                    name=f"{name}.{where[:-1]}",
                    layer=name,
                    query_heads=query_heads,
                    key_value_heads=key_value_heads,
                    key_dim=key_dim,
                    value_dim=value_dim,
                )
            )
        else:
            modules.append(
                LinearModule(
                    name=f"{name}.{where}",
                    layer=name,
                    kind="conv1d" if "c_" in where else "linear",
                    in_features=int(rest[0]),
                    out_features=int(rest[1]),
                    writes_residual=rest[-1] == "*",
                )
            )
    return Layer(name=name, modules=tuple(modules), attentions=tuple(attentions))


def _stack(where: str, text: str, *, count: int = 3) -> tuple[Layer, ...]:
    """Layers of one kind under a list's name."""
    return tuple(_layer(f"{where}.{index}", text) for index in range(count))


def _classifies(**parameters: int) -> tuple[Head, ...]:
    """Heads with this many parameters each."""
    return tuple(Head(name=name, parameters=count) for name, count in parameters.items())


_LLAMA_LAYER = """
self_attn.q_proj 32 32
self_attn.k_proj 32 16
self_attn.v_proj 32 16
self_attn.o_proj 32 32 *
mlp.gate_proj 32 48
mlp.up_proj 32 48
mlp.down_proj 48 32 *
self_attn: 4 2 8 8
"""
# Heads of 16 where hidden / heads is 8.
_QWEN3_LAYER = """
self_attn.q_proj 32 64
self_attn.k_proj 32 32
self_attn.v_proj 32 32
self_attn.o_proj 64 32 *
mlp.gate_proj 32 48
mlp.up_proj 32 48
mlp.down_proj 48 32 *
self_attn: 4 2 16 16
"""
_GEMMA_LAYER = """
self_attn.q_proj 32 64
self_attn.k_proj 32 16
self_attn.v_proj 32 16
self_attn.o_proj 64 32 *
mlp.gate_proj 32 48
mlp.up_proj 32 48
mlp.down_proj 48 32 *
self_attn: 4 1 16 16
"""
_BERT_LAYER = """
attention.self.query 32 32
attention.self.key 32 32
attention.self.value 32 32
attention.output.dense 32 32 *
intermediate.dense 32 48
output.dense 48 32 *
attention.self: 4 4 8 8
"""
_DISTILBERT_LAYER = """
attention.q_lin 32 32
attention.k_lin 32 32
attention.v_lin 32 32
attention.out_lin 32 32 *
ffn.lin1 32 48
ffn.lin2 48 32 *
attention: 4 4 8 8
"""
_GPT2_LAYER = """
attn.c_attn 32 96
attn.c_proj 32 32 *
mlp.c_fc 32 128
mlp.c_proj 128 32 *
attn: 4 4 8 8
"""
_OPT_LAYER = """
self_attn.k_proj 32 32
self_attn.v_proj 32 32
self_attn.q_proj 32 32
self_attn.out_proj 32 32 *
fc1 32 48
fc2 48 32 *
self_attn: 4 4 8 8
"""
_T5_ENCODER_LAYER = """
layer.0.SelfAttention.q 32 64
layer.0.SelfAttention.k 32 64
layer.0.SelfAttention.v 32 64
layer.0.SelfAttention.o 64 32 *
layer.1.DenseReluDense.wi 32 48
layer.1.DenseReluDense.wo 48 32 *
layer.0.SelfAttention: 4 4 16 16
"""
_T5_DECODER_LAYER = """
layer.0.SelfAttention.q 32 64
layer.0.SelfAttention.k 32 64
layer.0.SelfAttention.v 32 64
layer.0.SelfAttention.o 64 32 *
layer.1.EncDecAttention.q 32 64
layer.1.EncDecAttention.k 32 64
layer.1.EncDecAttention.v 32 64
layer.1.EncDecAttention.o 64 32 *
layer.2.DenseReluDense.wi 32 48
layer.2.DenseReluDense.wo 48 32 *
layer.0.SelfAttention: 4 4 16 16
layer.1.EncDecAttention: 4 4 16 16
"""
_VIT_LAYER = """
attention.q_proj 32 32
attention.k_proj 32 32
attention.v_proj 32 32
attention.o_proj 32 32 *
mlp.fc1 32 48
mlp.fc2 48 32 *
attention: 4 4 8 8
"""
_ALBERT_LAYER = """
albert_layers.0.attention.query 32 32
albert_layers.0.attention.key 32 32
albert_layers.0.attention.value 32 32
albert_layers.0.attention.dense 32 32 *
albert_layers.0.ffn 32 48
albert_layers.0.ffn_output 48 32 *
albert_layers.0.attention: 4 4 8 8
"""

_CLASSIFIER = {"heads": _classifies(classifier=33 * 3), "skipped": {"classifier": _HEAD}}
_BERT = Expected(layers=_stack("bert.encoder.layer", _BERT_LAYER), norms="post")
_ROBERTA = Expected(layers=_stack("roberta.encoder.layer", _BERT_LAYER), norms="post")
_DISTILBERT = Expected(layers=_stack("distilbert.transformer.layer", _DISTILBERT_LAYER), norms="post")
_ALBERT = Expected(layers=(_layer("albert.encoder.albert_layer_groups.0", _ALBERT_LAYER),), norms="post")
_CAUSAL = {"skipped": {"lm_head": _LM_HEAD}, "peft_task": "CAUSAL_LM"}
_LLAMA = Expected(layers=_stack("model.layers", _LLAMA_LAYER), **_CAUSAL)
_ALBERT_OUTSIDE = {"albert.encoder.embedding_hidden_mapping_in": (16, 32)}

_WRITTEN_DOWN = {
    "llama": _LLAMA,
    "llama-classifier": evolve(_LLAMA, heads=_classifies(score=32 * 3), skipped={"score": _HEAD}, peft_task="SEQ_CLS"),
    "qwen3": Expected(layers=_stack("model.layers", _QWEN3_LAYER), **_CAUSAL),
    "mistral": _LLAMA,
    "gemma": Expected(layers=_stack("model.layers", _GEMMA_LAYER), **_CAUSAL),
    "bert-classifier": evolve(_BERT, outside={"bert.pooler.dense": (32, 32)}, **_CLASSIFIER, peft_task="SEQ_CLS"),
    "bert": evolve(
        _BERT,
        outside={"cls.predictions.transform.dense": (32, 32)},
        skipped={"cls.predictions.decoder": _LM_HEAD},
    ),
    "roberta-classifier": evolve(
        _ROBERTA,
        heads=_classifies(classifier=33 * 32 + 33 * 3),
        skipped={"classifier.dense": _HEAD, "classifier.out_proj": _HEAD},
        peft_task="SEQ_CLS",
    ),
    "roberta": evolve(_ROBERTA, outside={"lm_head.dense": (32, 32)}, skipped={"lm_head.decoder": _LM_HEAD}),
    # Under SEQ_CLS, PEFT 0.21 takes pre_classifier for a linear layer to adapt and for its head "classifier".
    "distilbert-classifier": evolve(
        _DISTILBERT,
        heads=_classifies(pre_classifier=33 * 32, classifier=33 * 3),
        skipped={"pre_classifier": _HEAD, "classifier": _HEAD},
    ),
    "distilbert": evolve(
        _DISTILBERT,
        outside={"vocab_transform": (32, 32)},
        skipped={"vocab_projector": _LM_HEAD},
    ),
    "gpt2": Expected(layers=_stack("transformer.h", _GPT2_LAYER), **_CAUSAL),
    "opt": Expected(
        layers=_stack("model.decoder.layers", _OPT_LAYER),
        outside={"model.decoder.project_out": (32, 16), "model.decoder.project_in": (16, 32)},
        **_CAUSAL,
    ),
    "t5": Expected(
        layers=(
            *_stack("encoder.block", _T5_ENCODER_LAYER, count=2),
            *_stack("decoder.block", _T5_DECODER_LAYER, count=2),
        ),
        skipped={"lm_head": _LM_HEAD},
        peft_task="SEQ_2_SEQ_LM",
    ),
    # PEFT has no task type for images, so that its own all-linear takes the classifier along.
    "vit": Expected(layers=_stack("vit.layers", _VIT_LAYER), **_CLASSIFIER),
    "albert-classifier": evolve(
        _ALBERT, outside={**_ALBERT_OUTSIDE, "albert.pooler": (32, 32)}, **_CLASSIFIER, peft_task="SEQ_CLS"
    ),
    "albert": evolve(
        _ALBERT,
        outside={**_ALBERT_OUTSIDE, "predictions.dense": (32, 16)},
        skipped={"predictions.decoder": _LM_HEAD},
    ),
}

#: Models of which only the behaviour is checked: other names of writers, heads that differ within the model.
_BEHAVING = {
    "gpt-neox": Expected(),
    "gptj": Expected(attends=_SINCE_5_24),
    "codegen": Expected(attends=_SINCE_5_24),
    "phi": Expected(),
    "gemma2": Expected(),
    "modernbert": Expected(),
    "bloom": Expected(attends=False),
    "deberta-v2-masked": Expected(norms="post", attends=False),
    "bart": Expected(norms="post"),
    "deepseek-dense": Expected(),
}

EXPECTED: dict[str, Expected] = {**_WRITTEN_DOWN, **_BEHAVING}
