"""Mixtures of experts: stacked in one parameter, or in a list of modules."""

from zoo.batches import text_to_text
from zoo.tiny_model import GROUPED, LATENT, SIZES, THREE, TOKENS, kind

_mixture = kind("mixture")
_LOCAL = {**GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2}
_EXPERTS = {**GROUPED, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
_ROUTED = {
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
    "first_k_dense_replace": 1,
    "topk_group": 1,
}
_DEEPSEEK = {**SIZES, **TOKENS, **LATENT, **_ROUTED}

MODELS = (
    _mixture("mixtral", "MixtralForCausalLM", _LOCAL),
    _mixture("phimoe", "PhimoeForCausalLM", _LOCAL),
    _mixture("qwen2_moe", "Qwen2MoeForCausalLM", {**_EXPERTS, "shared_expert_intermediate_size": 24}),
    _mixture("qwen3_moe", "Qwen3MoeForCausalLM", {**_EXPERTS, "head_dim": 8}),
    _mixture(
        "qwen3_next",
        "Qwen3NextForCausalLM",
        {
            **_EXPERTS,
            "head_dim": 16,
            "shared_expert_intermediate_size": 24,
            "layer_types": ["linear_attention", "full_attention"],
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
        },
    ),
    _mixture("gpt_oss", "GptOssForCausalLM", {**_LOCAL, "head_dim": 8}),
    _mixture("olmoe", "OlmoeForCausalLM", {**GROUPED, "num_experts": 4, "num_experts_per_tok": 2}),
    _mixture("granitemoe", "GraniteMoeForCausalLM", _LOCAL),
    _mixture("granitemoeshared", "GraniteMoeSharedForCausalLM", {**_LOCAL, "shared_intermediate_size": 24}),
    _mixture(
        "granitemoehybrid",
        "GraniteMoeHybridForCausalLM",
        {
            **_LOCAL,
            "shared_intermediate_size": 24,
            "layer_types": ["mamba", "attention"],
            "mamba_n_heads": 8,
            "mamba_d_head": 8,
            "mamba_d_state": 4,
            "mamba_chunk_size": 4,
        },
    ),
    _mixture(
        "llama4",
        "Llama4ForCausalLM",
        {**_LOCAL, "num_experts_per_tok": 1, "intermediate_size_mlp": 48, "head_dim": 8},
    ),
    _mixture("deepseek_v2", "DeepseekV2ForCausalLM", {**_DEEPSEEK, "n_group": 1}),
    _mixture("deepseek_v3", "DeepseekV3ForCausalLM", {**_DEEPSEEK, "n_group": 2}),
    # Without its experts, for its attention alone.
    _mixture(
        "deepseek-dense",
        "DeepseekV3ForCausalLM",
        {
            **SIZES,
            **THREE,
            **TOKENS,
            **LATENT,
            "first_k_dense_replace": 3,
            "n_routed_experts": 4,
            "n_group": 2,
            "topk_group": 1,
        },
        row=None,
    ),
    # Of all positions its indexer leaves two to see.
    _mixture(
        "deepseek_v32",
        "DeepseekV32ForCausalLM",
        {
            **_DEEPSEEK,
            "moe_intermediate_size": 16,
            "n_group": 2,
            "first_k_dense_replace": 2,
            "index_topk": 2,
            "index_head_dim": 8,
            "index_n_heads": 2,
        },
        row=None,
    ),
    _mixture("glm4_moe", "Glm4MoeForCausalLM", {**GROUPED, **_ROUTED, "n_group": 1, "head_dim": 8}),
    _mixture(
        "ernie4_5_moe",
        "Ernie4_5_MoeForCausalLM",
        {**GROUPED, "moe_intermediate_size": 24, "moe_num_experts": 4, "moe_k": 2, "moe_num_shared_experts": 1},
    ),
    _mixture(
        "jetmoe",
        "JetMoeForCausalLM",
        {
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_key_value_heads": 2,
            "kv_channels": 8,
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            **TOKENS,
        },
    ),
    _mixture(
        "jamba",
        "JambaForCausalLM",
        {
            **GROUPED,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
            "expert_layer_period": 2,
            "expert_layer_offset": 1,
            "use_mamba_kernels": False,
            "mamba_d_state": 4,
        },
    ),
    _mixture(
        "switch",
        "SwitchTransformersForConditionalGeneration",
        {
            "d_model": 32,
            "d_ff": 48,
            "d_kv": 8,
            "num_layers": 2,
            "num_decoder_layers": 2,
            "num_heads": 4,
            "num_experts": 2,
            "num_sparse_encoder_layers": 1,
            "num_sparse_decoder_layers": 1,
            "decoder_start_token_id": 1,
            **TOKENS,
        },
        batch=text_to_text,
        unused=("expert_0.wi", "expert_0.wo", "expert_1.wi", "expert_1.wo"),
    ),
)
