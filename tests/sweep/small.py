"""A small configuration of any class: every size by its name, sub-configurations too, and a few families by hand."""

import re
from typing import Any

from transformers import PreTrainedConfig

from sweep.families import FAMILIES

WIDTH, HEADS, LAYERS, VOCABULARY, POSITIONS, LABELS, IMAGE = 32, 4, 2, 97, 64, 3, 32

#: By what an attribute's whole name matches, its value; the first that matches counts.
RULES: tuple[tuple[str, Any], ...] = (
    (r"num_labels", LABELS),
    (r"(t2u_|unit_hifi_gan_|char_|audio_|decoder_|text_)?vocab_size(_per_layer_input)?|n_vocab|unpadded_vocab_size", VOCABULARY),
    (r"pad_token_id", 1),
    (r"bos_token_id", 2),
    (r"eos_token_id", 3),
    (r"decoder_start_token_id", 2),
    (r"(cls_token_id|forced_bos_token_id)", 2),
    (r"(sep_token_id|eod_token_id|forced_eos_token_id)", 3),
    (r"max_2d_position_embeddings", 1024),
    (r"\w*max_(\w+_)?position_embeddings|n_positions|n_ctx|max_seq_len|model_max_length|max_(source|target)_positions", POSITIONS),
    (r"(n|num)_key_value_heads|kv_n_heads|num_kv_heads|\w+_num_key_value_heads", HEADS // 2),
    (r"num_(query_)?heads|n_heads?|\w*num_attention_heads|(\w+_)?attention_heads|\w*encoder_attention_heads", HEADS),
    (r"(\w+_)?num_(hidden_)?layers|n_layers?|(\w+_)?(encoder|decoder)_layers|num_(en|de)coder_(layers|blocks)|depth|num_blocks", LAYERS),
    (r"head_dim|attention_head_size|d_kv|d_head|dim_head|kv_channels|swa_head_dim|global_head_dim", 8),
    (r"moe_(\w+_)?intermediate_size|shared_\w*intermediate_size|expert_ffn_hidden_size", 24),
    (r"(\w+_)?intermediate_size(_mlp)?|ffn_(hidden_size|dim)|(\w+_)?(encoder|decoder)_ffn_dim|d_ff|d_inner|n_inner|dff|dim_ff|mlp_dim", 48),
    (r"hidden_size_per_layer_input|hidden_size_per_head", 8),
    (r"(n|num)_shared_experts|moe_num_shared_experts", 1),
    (r"(\w+_)?num_experts_per_tok(en)?|moe_(k|topk|top_k)|top_k_experts", 2),
    (r"(\w+_)?num_(local_|routed_)?experts|n_routed_experts|moe_num_experts|num_local_experts|zero_expert_num", 4),
    (r"hidden_size|d_model|n_embd|emb_dim|dim|(\w+_)?embed_dim|(\w+_)?hidden_dim|embedding_size|attention_hidden_size|(\w+_)?hidden_size(_global)?|model_dim|word_embed_proj_dim|projection_(dim|size)|output_dim|embedding_dim", WIDTH),
    (r"num_expert_group|topk_group|n_group", 1),
    (r"first_k_dense_replace", 1),
    (r"q_lora_rank|kv_lora_rank|qk_nope_head_dim|o_lora_rank|v_head_dim|\w*linear_(key|value)_head_dim|index_head_dim|linear_head_dim", 8),
    (r"qk_rope_head_dim", 4),
    (r"rotary_dim", 8),
    (r"qk_head_dim", 12),
    (r"linear_num_key_heads|index_n_heads|linear_num_heads", 2),
    (r"linear_num_value_heads", 4),
    (r"(ssm_|mamba_d_)?state(_size)?|mamba_d_state", 4),
    (r"mamba_n_heads|mamba_num_heads", 8),
    (r"mamba_d_head|mamba_head_dim", 8),
    (r"mamba_n_groups|n_groups|mamba_d_ssm_groups", 1),
    (r"(mamba_)?chunk_size", 4),
    (r"image_size|input_size", IMAGE),
    (r"\w*token_(id|index)", 5),
)  # fmt: skip

#: What is None in the class's own default, and has to be a number before a model is built or reads two samples.
UNSET = {"head_dim": 8, "num_key_value_heads": HEADS // 2, "vocab_size": VOCABULARY, "pad_token_id": 1, "num_experts_per_tok": 2}

#: Lists with one entry a layer, which are cut to one of each kind.
BY_LAYER = re.compile(r"(\w+_)?layer_types|layers_block_type|mlp_layer_types|indexer_types|mlp_only_layers")


def configuration(kind: type[PreTrainedConfig], name: str = "") -> PreTrainedConfig:
    """A small configuration.

    kind: its class.
    name: of the model class that it is for, for which a family may ask for its own.
    """
    given = {**values(kind), "experts_implementation": "eager", **FAMILIES.get(kind.__name__, {}), **FAMILIES.get(name, {})}
    return kind(**given)


def values(kind: type[PreTrainedConfig]) -> dict[str, Any]:
    """What to give to a configuration's class, for it to be small."""
    default = kind()
    given: dict[str, Any] = {"num_labels": LABELS}
    if default.is_encoder_decoder:
        given["decoder_start_token_id"] = 2
    for name, value in vars(default).items():
        if name.startswith("_") or name in ("id2label", "label2id", "problem_type"):
            continue
        if isinstance(value, PreTrainedConfig):
            given[name] = {**values(type(value)), **FAMILIES.get(type(value).__name__, {}), "model_type": value.model_type}
            given[name].pop("num_labels", None)
        elif re.search(r"dropout|drop_path|layerdrop|pdrop|jitter", name) and isinstance(value, (int, float)):
            given[name] = type(value)(0)
        elif (size := _small(name, value)) is not None:
            given[name] = size
    return _fitting(default, given)


def _small(name: str, value: Any) -> Any:
    """The small value of an attribute, or None where it stays as it is."""
    if value is None and name in UNSET:
        return UNSET[name]
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    for pattern, size in RULES:
        if re.fullmatch(pattern, name):
            keep = name.endswith("_token_id") and 0 <= value < VOCABULARY and name not in ("pad_token_id", "bos_token_id", "eos_token_id")
            return None if keep else size
    return None


def _fitting(default: PreTrainedConfig, given: dict[str, Any]) -> dict[str, Any]:
    """Sizes that depend on one another: layers' kinds, heads for keys, the sections of rotary positions."""
    layers = LAYERS
    lists = [
        name for name, value in vars(default).items() if BY_LAYER.fullmatch(name) and isinstance(value, (list, tuple)) and value
        and isinstance(value[0], str)
    ]  # fmt: skip
    if lists:
        rows = list(zip(*(getattr(default, name) for name in lists), strict=False))
        kinds = sorted({row: rows.index(row) for row in rows}.values())[:4]
        layers = max(LAYERS, len(kinds))
        chosen = [rows[index] for index in kinds] if len(kinds) > 1 else [rows[0]] * layers
        for place, name in enumerate(lists):
            given[name] = [row[place] for row in chosen]
        for name in ("num_hidden_layers", "n_layer", "num_layers"):
            if name in given:
                given[name] = layers
    if "qk_rope_head_dim" in given:
        given.pop("head_dim", None)  # of latent attention, which derives it
    keys, heads = vars(default).get("num_key_value_heads"), vars(default).get("num_attention_heads")
    if isinstance(keys, int) and isinstance(heads, int) and "num_key_value_heads" in given:
        given["num_key_value_heads"] = HEADS if keys == heads else 1 if keys == 1 else HEADS // 2
    return given
