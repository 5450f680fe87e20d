"""Configurations that no rule of names makes fit, by the name of their class or of the model's."""

from typing import Any

_STAGES = {"depths": [1, 1], "hidden_sizes": [16, 32]}
_SWIN = {"image_size": 32, "patch_size": 4, "embed_dim": 16, "depths": [2, 1], "num_heads": [2, 4], "window_size": 2}
_PYRAMID = {
    "num_encoder_blocks": 2, "depths": [1, 1], "sr_ratios": [2, 1], "sequence_reduction_ratios": [2, 1],
    "hidden_sizes": [16, 32], "patch_sizes": [4, 2], "strides": [4, 2], "num_attention_heads": [2, 4],
    "mlp_ratios": [2, 2], "image_size": 32, "decoder_hidden_size": 16, "padding": [1, 1],
}  # fmt: skip
_PERCEIVER = {
    "num_latents": 6, "d_latents": 32, "d_model": 32, "num_self_attends_per_block": 2, "num_self_attention_heads": 4,
    "num_cross_attention_heads": 4, "vocab_size": 97, "max_position_embeddings": 64, "image_size": 32,
    "train_size": [32, 32],
}  # fmt: skip
_REFORMER = {
    "attn_layers": ["local", "lsh"], "axial_pos_shape": [8, 8], "axial_pos_embds_dim": [16, 16], "feed_forward_size": 48,
    "local_attn_chunk_length": 4, "lsh_attn_chunk_length": 4, "attention_head_size": 8, "num_hashes": 1, "num_buckets": 2,
    "hash_seed": 0,
}  # fmt: skip
_GPT_NEO = {"attention_types": [[["global", "local"], 1]], "num_layers": 2}
_SHARED = {"layer_types": ["sliding_attention", "full_attention"] * 2, "num_hidden_layers": 4, "num_kv_shared_layers": 2}
_ROPE = {"rope_type": "default", "rope_theta": 10000.0}
_COMPASS = {
    "layer_types": ["sliding_attention", "full_attention"],
    "rope_parameters": {
        "full_attention": {**_ROPE, "mrope_section": [1, 1, 2]}, "sliding_attention": {**_ROPE, "mrope_section": [1, 1, 2]},
    },
}  # fmt: skip

#: As the rules leave them, with these in place of what does not fit.
FAMILIES: dict[str, dict[str, Any]] = {
    "BitConfig": {**_STAGES, "embedding_size": 16, "num_groups": 4},
    "ConvNextConfig": {**_STAGES, "num_stages": 2},
    "ConvNextV2Config": {**_STAGES, "num_stages": 2},
    "CvtConfig": {"embed_dim": [16, 32, 32], "num_heads": [1, 2, 2], "depth": [1, 2, 3], "mlp_ratio": [2.0, 2.0, 2.0], "drop_path_rate": [0.0, 0.0, 0.0]},
    "DonutSwinConfig": _SWIN,
    "SwinConfig": _SWIN,
    "Swinv2Config": _SWIN,
    "EfficientNetConfig": {
        "image_size": 32, "width_coefficient": 0.25, "depth_coefficient": 0.2, "hidden_dim": 320, "kernel_sizes": [3, 5],
        "in_channels": [32, 16], "out_channels": [16, 24], "strides": [1, 2], "num_block_repeats": [1, 2],
        "expand_ratios": [1, 6],
    },
    "FocalNetConfig": {"embed_dim": 16, "hidden_sizes": [16, 32], "depths": [1, 1], "focal_levels": [2, 2], "focal_windows": [3, 3], "image_size": 32},
    "HGNetV2Config": {
        "embedding_size": 16, "depths": [1, 1], "hidden_sizes": [16, 32], "stem_channels": [3, 8, 8], "stage_in_channels": [8, 16],
        "stage_mid_channels": [8, 8], "stage_out_channels": [16, 32], "stage_num_blocks": [1, 1], "stage_downsample": [False, True],
        "stage_downsample_strides": [2, 2], "stage_light_block": [False, True], "stage_kernel_size": [3, 5], "stage_numb_of_layers": [2, 2],
    },
    "HieraConfig": {"embed_dim": 8, "image_size": [64, 64], "depths": [1, 1, 2, 1], "num_heads": [1, 2, 4, 8]},
    "LevitConfig": {
        "image_size": 64, "hidden_sizes": [16, 24, 32], "num_attention_heads": [2, 3, 4], "depths": [1, 1, 1], "key_dim": [8, 8, 8],
        "down_ops": [["Subsample", 8, 2, 4, 2, 2], ["Subsample", 8, 3, 4, 2, 2]],
    },
    "MobileNetV1Config": {"depth_multiplier": 0.25},
    "MobileNetV2Config": {"depth_multiplier": 0.25},
    "MobileViTConfig": {"hidden_sizes": [16, 24, 32], "neck_hidden_sizes": [8, 8, 8, 8, 8, 8, 32], "image_size": 64},
    "MobileViTV2Config": {"image_size": 64, "width_multiplier": 0.25, "n_attn_blocks": [1, 1, 1], "base_attn_unit_dims": [64, 64, 64]},
    "PPLCNetConfig": {"scale": 0.25, "class_expand": 32},
    "PvtConfig": _PYRAMID,
    "PvtV2Config": {**_PYRAMID, "patch_sizes": [3, 3]},
    "SegformerConfig": {**_PYRAMID, "patch_sizes": [3, 3]},
    "PoolFormerConfig": {**_PYRAMID, "patch_sizes": [3, 3]},
    "RegNetConfig": {**_STAGES, "embedding_size": 16, "groups_width": 8},
    "ResNetConfig": {**_STAGES, "embedding_size": 16},
    "SwiftFormerConfig": {"image_size": 64, "depths": [1, 1, 1, 1], "embed_dims": [8, 16, 16, 24], "mlp_ratio": 2},
    "TextNetConfig": {
        "image_size": [32, 32], "stem_out_channels": 8, "hidden_sizes": [8, 8, 16], "depths": [1, 2],
        "conv_layer_kernel_sizes": [[[3, 3]], [[3, 1], [1, 3]]], "conv_layer_strides": [[2], [1, 2]],
    },
    "BambaConfig": {"attn_layer_indices": [1]},
    "JambaConfig": {"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1},
    "GraniteMoeHybridConfig": {"layer_types": ["mamba", "attention"]},
    "FunnelConfig": {"block_sizes": [1, 1], "num_decoder_layers": 1, "d_model": 32, "n_head": 4, "d_head": 8, "d_inner": 48},
    "MobileBertConfig": {"intra_bottleneck_size": 16, "true_hidden_size": 16},
    "XmodConfig": {"default_language": "en_XX", "languages": ["en_XX"]},
    "LEDConfig": {"attention_window": 4},
    "LongformerConfig": {"attention_window": 4},
    "LayoutLMv3Config": {"coordinate_size": 4, "shape_size": 8},
    "LiltConfig": {"hidden_size": 48, "channel_shrink_ratio": 2},
    "BrosConfig": {"hidden_size": 64},
    "Zamba2Config": {
        "layers_block_type": ["linear_attention", "linear_attention", "hybrid", "linear_attention", "hybrid"], "num_hidden_layers": 5,
        "attention_hidden_size": 64, "attention_head_dim": 16,
    },
    "LongcatFlashConfig": {"head_dim": 4},
    "Siglip2VisionConfig": {"num_patches": 16, "patch_size": 4},
    "Gemma4UnifiedTextConfig": _SHARED,
    "PerceiverConfig": _PERCEIVER,
    "PerceiverForImageClassificationFourier": {**_PERCEIVER, "num_cross_attention_heads": 1},
    "PerceiverForImageClassificationConvProcessing": {**_PERCEIVER, "num_cross_attention_heads": 1},
    "LukeConfig": {"entity_vocab_size": 20, "entity_emb_size": 16},
    "FSMTConfig": {"src_vocab_size": 97, "tgt_vocab_size": 97},
    "MarkupLMConfig": {"max_depth": 4},
    "ReformerConfig": {**_REFORMER, "is_decoder": False},
    "ReformerModelWithLMHead": {**_REFORMER, "is_decoder": True},
    "GPTNeoConfig": _GPT_NEO,
    "EsmConfig": {"vocab_size": 97, "pad_token_id": 1, "mask_token_id": 4, "position_embedding_type": "rotary"},
    "Mamba2Config": {"num_heads": 8, "head_dim": 8},
    "FalconH1Config": {"mamba_d_ssm": 64},
    "NeoMMEConfig": {"head_dim": 16, "embedding_rank": 16},
    "ZambaConfig": {
        "attn_layer_period": 2, "attn_layer_offset": 1, "num_hidden_layers": 5, "attention_hidden_size": 64, "attention_head_dim": 16,
        "num_key_value_heads": 4, "layers_block_type": ["linear_attention", "linear_attention", "hybrid", "linear_attention", "hybrid"],
    },
    "ZayaConfig": {"num_experts_per_tok": 1, "router_hidden_size": 16},
    "DbrxConfig": {"attn_config": {"kv_n_heads": 2, "rope_theta": 10000.0, "clip_qkv": 8.0}, "ffn_config": {"hidden_size": 32, "ffn_hidden_size": 48}},
    "CohereCompassTextConfig": _COMPASS,
    "CohereCompassConfig": {"text_config": _COMPASS},
    "Gemma3nTextConfig": {**_SHARED, "intermediate_size": [48] * 4, "activation_sparsity_pattern": [0.9, 0.0, 0.0, 0.0], "laurel_rank": 8},
    "Dots1Config": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2, "first_k_dense_replace": 1},
    "Lfm2MoeConfig": {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "Qwen4ExpTextConfig": {
        "indexer_n_heads": 2, "indexer_kv_heads": 1, "indexer_head_dim": 8, "indexer_budget": 8, "indexer_compress_ratio": 2, "hc_lowrank": 8,
    },
    "BltConfig": {"encoder_hash_byte_group_vocab": 100, "encoder_hash_byte_group_size": [3, 4]},
    "VibeVoiceAcousticTokenizerEncoderConfig": {"num_filters": 4, "depths": [1, 1], "downsampling_ratios": [2], "hidden_size": 8},
}  # fmt: skip
