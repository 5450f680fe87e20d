"""Tiny random models of many families, and what each is made of, written down by hand."""

import inspect as signatures
from collections.abc import Callable, Mapping
from typing import Any, Literal

import pytest
import torch
import transformers
from attrs import frozen
from torch import Tensor, nn

from layerlens_core.inspection.inspect import inspect
from layerlens_core.plugin.registry import default
from layerlens_core.values.costs import Cost, Limits, Training
from layerlens_core.values.decisions import Decision
from layerlens_core.values.inventory import AttentionModule, Head, Inventory, Layer, LinearModule
from layerlens_core.values.plan import Plan
from layerlens_core.values.request import Request

VOCABULARY = 97
PAD = 1
LABELS = 3
_SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
_TOKENS = {"vocab_size": VOCABULARY, "pad_token_id": PAD, "bos_token_id": 2, "eos_token_id": 3}
_DISTILBERT = {"vocab_size": VOCABULARY, "pad_token_id": PAD, "dim": 32, "hidden_dim": 48, "n_layers": 3, "n_heads": 4}
_GPT = {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64, **_TOKENS}
_HEAD = "part of the task head, which trains in full"
_LM_HEAD = "the language-model head"


@frozen(kw_only=True)
class Family:
    """A model class at a tiny size, and the inventory that it must have.

    task: PEFT's task type, where PEFT can count this model under one.
    layers, outside, heads, skipped: the expected inventory; no layers where only behaviour is checked.
    norms: ``pre`` where a layer adds to its input, ``post`` where each sum is normalised before the next.
    attends: whether its attention goes through transformers' attention interface.
    """

    name: str
    architecture: str
    config: Mapping[str, Any]
    task: str | None = None
    layers: tuple[Layer, ...] = ()
    outside: Mapping[str, tuple[int, int]]
    heads: tuple[Head, ...]
    skipped: Mapping[str, str]
    norms: Literal["pre", "post"]
    attends: bool

    def build(self) -> transformers.PreTrainedModel:
        """A seeded model whose weights are large enough that no layer is close to a constant."""
        torch.manual_seed(0)
        architecture = getattr(transformers, self.architecture)
        model = architecture(architecture.config_class(**self.config)).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.normal_(0.0, 0.1)
        return model

    def inputs(self, *, labels: bool = False) -> dict[str, Tensor]:
        """One batch of two samples."""
        generator = torch.Generator().manual_seed(1)
        tokens = torch.randint(4, VOCABULARY, (2, 7), generator=generator)
        batch: dict[str, Tensor] = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
        if "Image" in self.architecture:
            batch = {"pixel_values": torch.randn(2, 3, 16, 16, generator=generator)}
        if "Classification" in self.architecture:
            return {**batch, "labels": torch.tensor([0, 2])} if labels else batch
        if labels:
            return {**batch, "labels": tokens}
        if "decoder_input_ids" in signatures.signature(getattr(transformers, self.architecture).forward).parameters:
            batch["decoder_input_ids"] = tokens[:, :5].flip(0)
        return batch


def _family(
    name: str,
    architecture: str,
    config: Mapping[str, Any],
    task: str | None = None,
    *,
    layers: tuple[str, ...] = (),
    layer: str = "",
    others: Mapping[str, str] | None = None,
    outside: Mapping[str, tuple[int, int]] | None = None,
    heads: Mapping[str, int] | None = None,
    skipped: Mapping[str, str] | None = None,
    norms: Literal["pre", "post"] = "pre",
    attends: bool = True,
) -> Family:
    return Family(
        name=name,
        architecture=architecture,
        config=config,
        task=task,
        layers=tuple(_layer(at, (others or {}).get(at, layer)) for at in layers),
        outside=outside or {},
        heads=tuple(Head(name=head, parameters=parameters) for head, parameters in (heads or {}).items()),
        skipped=skipped or {},
        norms=norms,
        attends=attends,
    )


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


def _three(prefix: str) -> tuple[str, ...]:
    return tuple(f"{prefix}.{index}" for index in range(3))


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

_BERT = {
    "config": {**_SIZES, **_TOKENS, "num_labels": LABELS},
    "layers": _three("bert.encoder.layer"),
    "layer": _BERT_LAYER,
    "norms": "post",
}
_ROBERTA = {**_BERT, "layers": _three("roberta.encoder.layer")}
_DISTIL = {
    "config": {**_DISTILBERT, "num_labels": LABELS},
    "layers": _three("distilbert.transformer.layer"),
    "layer": _DISTILBERT_LAYER,
    "norms": "post",
}
_ALBERT = {
    "config": {**_SIZES, **_TOKENS, "num_labels": LABELS, "embedding_size": 16},
    "layers": ("albert.encoder.albert_layer_groups.0",),
    "layer": _ALBERT_LAYER,
    "norms": "post",
}
_GROUPED = {**_SIZES, **_TOKENS, "num_key_value_heads": 2}

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        _family(
            "llama",
            "LlamaForCausalLM",
            _GROUPED,
            "CAUSAL_LM",
            layers=_three("model.layers"),
            layer=_LLAMA_LAYER,
            skipped={"lm_head": _LM_HEAD},
        ),
        _family(
            "llama-classifier",
            "LlamaForSequenceClassification",
            {**_GROUPED, "num_labels": LABELS},
            "SEQ_CLS",
            layers=_three("model.layers"),
            layer=_LLAMA_LAYER,
            heads={"score": 32 * LABELS},
            skipped={"score": _HEAD},
        ),
        _family(
            "qwen3",
            "Qwen3ForCausalLM",
            {**_GROUPED, "head_dim": 16},
            "CAUSAL_LM",
            layers=_three("model.layers"),
            layer=_QWEN3_LAYER,
            skipped={"lm_head": _LM_HEAD},
        ),
        _family(
            "mistral",
            "MistralForCausalLM",
            _GROUPED,
            "CAUSAL_LM",
            layers=_three("model.layers"),
            layer=_LLAMA_LAYER,
            skipped={"lm_head": _LM_HEAD},
        ),
        _family(
            "gemma",
            "GemmaForCausalLM",
            {**_GROUPED, "num_key_value_heads": 1, "head_dim": 16},
            "CAUSAL_LM",
            layers=_three("model.layers"),
            layer=_GEMMA_LAYER,
            skipped={"lm_head": _LM_HEAD},
        ),
        _family(
            "bert-classifier",
            "BertForSequenceClassification",
            task="SEQ_CLS",
            **_BERT,
            outside={"bert.pooler.dense": (32, 32)},
            heads={"classifier": 33 * LABELS},
            skipped={"classifier": _HEAD},
        ),
        _family(
            "bert",
            "BertForMaskedLM",
            **_BERT,
            outside={"cls.predictions.transform.dense": (32, 32)},
            skipped={"cls.predictions.decoder": _LM_HEAD},
        ),
        _family(
            "roberta-classifier",
            "RobertaForSequenceClassification",
            task="SEQ_CLS",
            **_ROBERTA,
            heads={"classifier": 33 * 32 + 33 * LABELS},
            skipped={"classifier.dense": _HEAD, "classifier.out_proj": _HEAD},
        ),
        _family(
            "roberta",
            "RobertaForMaskedLM",
            **_ROBERTA,
            outside={"lm_head.dense": (32, 32)},
            skipped={"lm_head.decoder": _LM_HEAD},
        ),
        # Under SEQ_CLS, PEFT 0.21 takes pre_classifier for a linear layer to adapt and for its head "classifier".
        _family(
            "distilbert-classifier",
            "DistilBertForSequenceClassification",
            **_DISTIL,
            heads={"pre_classifier": 33 * 32, "classifier": 33 * LABELS},
            skipped={"pre_classifier": _HEAD, "classifier": _HEAD},
        ),
        _family(
            "distilbert",
            "DistilBertForMaskedLM",
            **_DISTIL,
            outside={"vocab_transform": (32, 32)},
            skipped={"vocab_projector": _LM_HEAD},
        ),
        _family(
            "gpt2",
            "GPT2LMHeadModel",
            _GPT,
            "CAUSAL_LM",
            layers=_three("transformer.h"),
            layer=_GPT2_LAYER,
            skipped={"lm_head": _LM_HEAD},
        ),
        _family(
            "opt",
            "OPTForCausalLM",
            {
                "hidden_size": 32,
                "ffn_dim": 48,
                "num_hidden_layers": 3,
                "num_attention_heads": 4,
                "word_embed_proj_dim": 16,
                "max_position_embeddings": 64,
                **_TOKENS,
            },
            "CAUSAL_LM",
            layers=_three("model.decoder.layers"),
            layer=_OPT_LAYER,
            outside={"model.decoder.project_out": (32, 16), "model.decoder.project_in": (16, 32)},
            skipped={"lm_head": _LM_HEAD},
        ),
        _family(
            "t5",
            "T5ForConditionalGeneration",
            {
                "d_model": 32,
                "d_ff": 48,
                "d_kv": 16,
                "num_layers": 2,
                "num_heads": 4,
                "decoder_start_token_id": PAD,
                **_TOKENS,
            },
            "SEQ_2_SEQ_LM",
            layers=("encoder.block.0", "encoder.block.1", "decoder.block.0", "decoder.block.1"),
            layer=_T5_ENCODER_LAYER,
            others={"decoder.block.0": _T5_DECODER_LAYER, "decoder.block.1": _T5_DECODER_LAYER},
            skipped={"lm_head": _LM_HEAD},
        ),
        # PEFT has no task type for images, so that its own all-linear takes the classifier along.
        _family(
            "vit",
            "ViTForImageClassification",
            {**_SIZES, "image_size": 16, "patch_size": 8, "num_labels": LABELS},
            layers=_three("vit.layers"),
            layer=_VIT_LAYER,
            heads={"classifier": 33 * LABELS},
            skipped={"classifier": _HEAD},
        ),
        _family(
            "albert-classifier",
            "AlbertForSequenceClassification",
            task="SEQ_CLS",
            **_ALBERT,
            outside={"albert.encoder.embedding_hidden_mapping_in": (16, 32), "albert.pooler": (32, 32)},
            heads={"classifier": 33 * LABELS},
            skipped={"classifier": _HEAD},
        ),
        _family(
            "albert",
            "AlbertForMaskedLM",
            **_ALBERT,
            outside={"albert.encoder.embedding_hidden_mapping_in": (16, 32), "predictions.dense": (32, 16)},
            skipped={"predictions.decoder": _LM_HEAD},
        ),
    )
}

#: Families of which only the behaviour is checked: other names of writers, heads that differ within the model.
FURTHER: dict[str, Family] = {
    family.name: family
    for family in (
        _family("gpt-neox", "GPTNeoXForCausalLM", {**_SIZES, **_TOKENS}),
        _family("gptj", "GPTJForCausalLM", {**_GPT, "rotary_dim": 8}, attends=False),
        _family("phi", "PhiForCausalLM", _GROUPED),
        _family("gemma2", "Gemma2ForCausalLM", {**_GROUPED, "head_dim": 16}),
        _family("modernbert", "ModernBertForMaskedLM", {**_SIZES, **_TOKENS, "cls_token_id": 2, "sep_token_id": 3}),
        _family("bloom", "BloomForCausalLM", {"hidden_size": 32, "n_layer": 3, "n_head": 4, **_TOKENS}, attends=False),
        _family("deberta", "DebertaV2ForMaskedLM", {**_SIZES, **_TOKENS}, norms="post", attends=False),
        _family(
            "bart",
            "BartForConditionalGeneration",
            {
                "d_model": 32,
                "encoder_layers": 2,
                "decoder_layers": 2,
                "encoder_ffn_dim": 48,
                "decoder_ffn_dim": 40,
                "encoder_attention_heads": 4,
                "decoder_attention_heads": 2,
                "max_position_embeddings": 64,
                "decoder_start_token_id": PAD,
                **_TOKENS,
            },
            norms="post",
        ),
        # Keys of 12 = 8 + 4 and values of 6, through low-rank projections.
        _family(
            "deepseek",
            "DeepseekV3ForCausalLM",
            {
                **_SIZES,
                **_TOKENS,
                "num_key_value_heads": 4,
                "first_k_dense_replace": 3,
                "n_routed_experts": 4,
                "n_group": 2,
                "topk_group": 1,
                "q_lora_rank": 8,
                "kv_lora_rank": 8,
                "qk_rope_head_dim": 4,
                "qk_nope_head_dim": 8,
                "v_head_dim": 6,
            },
        ),
    )
}


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> Family:
    """Every family whose inventory is written down."""
    return FAMILIES[request.param]


@pytest.fixture(params={**FAMILIES, **FURTHER})
def any_family(request: pytest.FixtureRequest) -> Family:
    """Those, and the ones of which only the behaviour is checked."""
    return {**FAMILIES, **FURTHER}[request.param]


@pytest.fixture
def named_family() -> Callable[[str], Family]:
    return {**FAMILIES, **FURTHER}.__getitem__


@frozen(eq=False)
class _Same:
    """Equal only where it holds the very same object."""

    value: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value


@pytest.fixture
def snapshot() -> Callable[[nn.Module], dict[str, Any]]:
    """Everything about a model that looking at it must not change, in values that compare."""

    def take(model: nn.Module) -> dict[str, Any]:
        return {
            "weights": {name: tensor.detach().clone().numpy().tobytes() for name, tensor in model.state_dict().items()},
            "requires_grad": {name: parameter.requires_grad for name, parameter in model.named_parameters()},
            "parameters": {name: id(parameter) for name, parameter in model.named_parameters()},
            "modules": {name: id(module) for name, module in model.named_modules()},
            "training": {name: module.training for name, module in model.named_modules()},
            "hooks": {
                name: [
                    len(hooks) for key, hooks in vars(module).items() if key.endswith("_hooks") and hooks is not None
                ]
                for name, module in model.named_modules()
            },
            "attributes": {
                name: {key: _Same(value) for key, value in vars(module).items()}
                for name, module in model.named_modules()
            },
            "random": torch.get_rng_state().tolist(),
        }

    return take


@pytest.fixture
def odd_state() -> Callable[[nn.Module], nn.Module]:
    """Puts a model in a state that a careless reset would not reproduce."""

    def make(model: nn.Module) -> nn.Module:
        model.train()
        next(model.children()).eval()
        for number, parameter in enumerate(model.parameters()):
            parameter.requires_grad_(number % 3 == 0)
        next(model.modules()).register_forward_hook(lambda module, args, output: None)
        return model

    return make


def _plan(inventory: Inventory, decisions: list[Decision], methods: tuple[str, ...], scale: int) -> Plan:
    """A plan of these decisions, without a budget."""
    return Plan(
        architecture=inventory.architecture,
        fingerprint=inventory.fingerprint,
        shapes=inventory.shapes,
        task="",
        request=Request(strategy="by hand", budget=(), weights={}, methods=methods, scale=scale),
        limits=Limits(),
        cost=sum((decision.cost for decision in decisions), Cost()),
        decisions=tuple(decisions),
        heads=inventory.heads,
    )


@pytest.fixture
def plan_of() -> Callable[..., Plan]:
    """A plan for a model with LoRA of these ranks; layers without any are ``none``."""

    def make(
        model: transformers.PreTrainedModel, ranks: Mapping[str, int], *, scale: int = 2, method: str = "lora"
    ) -> Plan:
        inventory = inspect(model)
        decisions = []
        for layer in inventory.layers:
            sizes = {module.name: ranks.get(module.name, 0) for module in layer.modules}
            trains = any(sizes.values())
            decisions.append(
                Decision(
                    unit=layer.name,
                    method=method if trains else "none",
                    size=max(sizes.values()),
                    sizes=sizes if trains else {},
                    utility=1.0,
                    cost=Cost(params=sum(sizes[m.name] * (m.in_features + m.out_features) for m in layer.modules)),
                    reason="by hand",
                )
            )
        return _plan(inventory, decisions, ("none", method), scale)

    return make


@pytest.fixture
def mixed_ranks() -> Callable[[transformers.PreTrainedModel], dict[str, int]]:
    """Ranks 1 to 5 over the modules of a model, its second layer and a module here and there left out."""

    def make(model: transformers.PreTrainedModel) -> dict[str, int]:
        ranks = {}
        for at, layer in enumerate(inspect(model).layers):
            if at != 1:
                for number, module in enumerate(layer.modules):
                    if (rank := (at + 2 * number + 3) % 6) > 0:
                        ranks[module.name] = rank
        return ranks

    return make


@pytest.fixture
def plan_with() -> Callable[..., Plan]:
    """A plan that gives layers these methods at these sizes, costed as the methods themselves do; others are ``none``.

    chosen: by layer, the method with one size, or with a size for each place by the end of its name.
    """

    def make(
        model: transformers.PreTrainedModel,
        chosen: Mapping[str, tuple[str, int | Mapping[str, int]]],
        *,
        scale: int = 2,
    ) -> Plan:
        inventory = inspect(model)
        decisions = []
        for layer in inventory.layers:
            method, size = chosen.get(layer.name, ("none", 0))
            targets = default().load("method", method).targets(layer)
            sizes = {
                target.name: size
                if isinstance(size, int)
                else next((n for end, n in size.items() if target.name.endswith(end)), 0)
                for target in targets
            }
            decisions.append(
                Decision(
                    unit=layer.name,
                    method=method,
                    size=max(sizes.values(), default=0),
                    sizes=sizes,
                    utility=1.0,
                    cost=sum((target.cost(sizes[target.name], Training()) for target in targets), Cost()),
                    reason="by hand",
                )
            )
        methods = tuple(dict.fromkeys(decision.method for decision in decisions))
        return _plan(inventory, decisions, methods, scale)

    return make
