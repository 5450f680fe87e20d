"""A small configuration of any class: every size by its name, sub-configurations too, and a few families by hand."""

import re
from typing import Any

from transformers import PreTrainedConfig

from sweep.families import FAMILIES

WIDTH, HEADS, LAYERS, VOCABULARY, POSITIONS, LABELS, IMAGE = 32, 4, 2, 97, 64, 3, 32

#: What an attribute becomes, and the patterns of names of which one matches its own; the first that matches counts.
RULES: tuple[tuple[int, tuple[str, ...]], ...] = (
    (LABELS, ("num_labels",)),
    (VOCABULARY, (r"(t2u_|unit_hifi_gan_|char_|audio_|decoder_|text_)?vocab_size(_per_layer_input)?",)),
    (VOCABULARY, ("n_vocab", "unpadded_vocab_size")),
    (1, ("pad_token_id",)),
    (2, ("bos_token_id", "decoder_start_token_id", "cls_token_id", "forced_bos_token_id")),
    (3, ("eos_token_id", "sep_token_id", "eod_token_id", "forced_eos_token_id")),
    (1024, ("max_2d_position_embeddings",)),
    (POSITIONS, (r"\w*max_(\w+_)?position_embeddings", "n_positions", "n_ctx", "max_seq_len", "model_max_length")),
    (POSITIONS, ("max_(source|target)_positions",)),
    (HEADS // 2, ("(n|num)_key_value_heads", "kv_n_heads", "num_kv_heads", r"\w+_num_key_value_heads")),
    (HEADS, ("num_(query_)?heads", "n_heads?", r"\w*num_attention_heads", r"(\w+_)?attention_heads")),
    (LAYERS, (r"(\w+_)?num_(hidden_)?layers", "n_layers?", r"(\w+_)?(en|de)coder_layers", "depth", "num_blocks")),
    (LAYERS, ("num_(en|de)coder_(layers|blocks)",)),
    (8, ("(attention_|swa_|global_)?head_dim", "attention_head_size", "d_kv", "d_head", "dim_head", "kv_channels")),
    (24, (r"moe_(\w+_)?intermediate_size", r"shared_\w*intermediate_size", "expert_ffn_hidden_size")),
    (48, (r"(\w+_)?intermediate_size(_mlp)?", "ffn_(hidden_size|dim)", r"(\w+_)?(encoder|decoder)_ffn_dim")),
    (48, ("d_ff", "d_inner", "n_inner", "dff", "dim_ff", "mlp_dim")),
    (8, ("hidden_size_per_layer_input", "hidden_size_per_head")),
    (1, ("(n|num)_shared_experts", "moe_num_shared_experts")),
    (2, (r"(\w+_)?num_experts_per_tok(en)?", "moe_(k|topk|top_k)", "top_k_experts")),
    (4, (r"(\w+_)?num_(local_|routed_)?experts", "n_routed_experts", "zero_expert_num")),
    (WIDTH, (r"(\w+_)?hidden_size(_global)?", "d_model", "n_embd", "emb_dim", "dim", r"(\w+_)?embed_dim")),
    (WIDTH, (r"(\w+_)?hidden_dim", "embedding_size", "embedding_dim", "model_dim", "word_embed_proj_dim")),
    (WIDTH, ("projection_(dim|size)", "output_dim")),
    (1, ("num_expert_group", "topk_group", "n_group", "first_k_dense_replace")),
    (8, ("(q|kv|o)_lora_rank", "qk_nope_head_dim", "v_head_dim", r"\w*linear_(key|value)_head_dim")),
    (8, ("index_head_dim", "linear_head_dim", "rotary_dim")),
    (4, ("qk_rope_head_dim",)),
    (12, ("qk_head_dim",)),
    (2, ("linear_num_key_heads", "index_n_heads", "linear_num_heads")),
    (4, ("linear_num_value_heads", "(ssm_)?state(_size)?", "mamba_d_state")),
    (8, ("mamba_n_heads", "mamba_num_heads", "mamba_d_head", "mamba_head_dim")),
    (1, ("mamba_n_groups", "n_groups")),
    (4, ("(mamba_)?chunk_size",)),
    (IMAGE, ("image_size", "input_size")),
    (5, (r"\w*token_(id|index)",)),
)
#: Token ids that are in the small vocabulary stay as they are, but for these.
SET = ("pad_token_id", "bos_token_id", "eos_token_id")

#: What is None in the class's own default, and has to be a number before a model is built or reads two samples.
UNSET = {
    "head_dim": 8,
    "num_key_value_heads": HEADS // 2,
    "vocab_size": VOCABULARY,
    "pad_token_id": 1,
    "num_experts_per_tok": 2,
}

#: Lists with one entry a layer, which are cut to one of each kind.
BY_LAYER = re.compile(r"(\w+_)?layer_types|layers_block_type|mlp_layer_types|indexer_types|mlp_only_layers")


def configuration(kind: type[PreTrainedConfig], name: str = "") -> PreTrainedConfig:
    """A small configuration.

    kind: its class.
    name: of the model class that it is for, for which a family may ask for its own.
    """
    given = {
        **values(kind),
        "experts_implementation": "eager",
        **FAMILIES.get(kind.__name__, {}),
        **FAMILIES.get(name, {}),
    }
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
            given[name] = {
                **values(type(value)),
                **FAMILIES.get(type(value).__name__, {}),
                "model_type": value.model_type,
            }
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
    for size, patterns in RULES:
        if any(re.fullmatch(pattern, name) for pattern in patterns):
            keep = name.endswith("_token_id") and 0 <= value < VOCABULARY and name not in SET
            return None if keep else size
    return None


def _fitting(default: PreTrainedConfig, given: dict[str, Any]) -> dict[str, Any]:
    """Sizes that depend on one another: layers' kinds, heads for keys, the sections of rotary positions."""
    layers = LAYERS
    lists = [name for name, value in vars(default).items() if BY_LAYER.fullmatch(name) and _of_words(value)]
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


def _of_words(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) > 0 and isinstance(value[0], str)
