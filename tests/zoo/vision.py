"""Images, alone and with text."""

from functools import partial

from zoo.batches import (
    grid_in_text,
    image,
    image_and_text,
    image_in_text,
    image_in_typed_text,
    images_in_text,
    masked_image,
    tiles_beside_text,
)
from zoo.tiny_model import GROUPED, SIZES, THREE, TOKENS, kind

_image, _both = kind("vision"), kind("vision and text")
_VIT = {**SIZES, "image_size": 16, "patch_size": 8}
_CLASSES = {**_VIT, "num_labels": 3}
_CAPTION = {**SIZES, **TOKENS, "max_position_embeddings": 64, "projection_dim": 16}
_SWIN = {
    "image_size": 16,
    "patch_size": 4,
    "embed_dim": 16,
    "depths": [2, 1],
    "num_heads": [2, 4],
    "window_size": 2,
    "num_labels": 3,
}
_STAGES = {
    "num_encoder_blocks": 2,
    "depths": [1, 1],
    "sr_ratios": [2, 1],
    "hidden_sizes": [16, 32],
    "patch_sizes": [3, 3],
    "strides": [2, 2],
    "num_attention_heads": [2, 4],
    "mlp_ratios": [2, 2],
    "num_labels": 3,
}
_QWEN_VISION = {"depth": 2, "num_heads": 4, "patch_size": 4, "temporal_patch_size": 2, "spatial_merge_size": 2}
_QWEN_TOKENS = {"image_token_id": 4, "vision_start_token_id": 5, "vision_end_token_id": 6, "video_token_id": 7}


def _qwen_text(section: list[int]) -> dict[str, object]:
    rope = {"rope_type": "default", "mrope_section": section, "rope_theta": 10000.0}
    return {**GROUPED, "head_dim": 8, "rope_parameters": rope}


MODELS = (
    _image("vit", "ViTForImageClassification", {**_CLASSES, **THREE}, batch=image),
    _image("deit", "DeiTForImageClassification", _CLASSES, batch=image),
    _image("beit", "BeitForImageClassification", _CLASSES, batch=image),
    _image("dinov2", "Dinov2ForImageClassification", {**_CLASSES, "mlp_ratio": 2}, batch=image),
    _image("dinov3", "DINOv3ViTModel", _VIT, batch=image),
    _image(
        "vit_mae",
        "ViTMAEForPreTraining",
        {
            **_VIT,
            "decoder_num_attention_heads": 4,
            "decoder_hidden_size": 32,
            "decoder_num_hidden_layers": 1,
            "decoder_intermediate_size": 48,
            "mask_ratio": 0.5,
        },
        batch=masked_image,
    ),
    _image("swin", "SwinForImageClassification", _SWIN, batch=image),
    _image("swinv2", "Swinv2ForImageClassification", _SWIN, batch=image),
    _image(
        "convnext",
        "ConvNextForImageClassification",
        {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2, "num_labels": 3, "image_size": 16},
        batch=image,
    ),
    _image("segformer", "SegformerForSemanticSegmentation", {**_STAGES, "decoder_hidden_size": 16}, batch=image),
    _image("pvt_v2", "PvtV2ForImageClassification", {**_STAGES, "image_size": 32}, batch=partial(image, 32)),
    _both(
        "clip",
        "CLIPModel",
        {"vision_config": {**_VIT, "projection_dim": 16}, "text_config": _CAPTION, "projection_dim": 16},
        batch=image_and_text,
    ),
    _both("siglip", "SiglipModel", {"vision_config": _VIT, "text_config": _CAPTION}, batch=image_and_text),
    _both(
        "blip",
        "BlipForConditionalGeneration",
        {"vision_config": _VIT, "text_config": {**_CAPTION, "encoder_hidden_size": 32}},
        batch=image_and_text,
    ),
    _both(
        "llava",
        "LlavaForConditionalGeneration",
        {
            "vision_config": {**_VIT, "model_type": "clip_vision_model"},
            "text_config": {**GROUPED, "model_type": "llama"},
            "image_token_id": 4,
            "vision_feature_layer": -1,
        },
        batch=image_in_text,
    ),
    _both(
        "paligemma",
        "PaliGemmaForConditionalGeneration",
        {
            "vision_config": {**_VIT, "model_type": "siglip_vision_model", "vision_use_head": False},
            "text_config": {**GROUPED, "model_type": "gemma", "head_dim": 8},
            "image_token_id": 4,
            "projection_dim": 32,
        },
        batch=image_in_typed_text,
    ),
    _both(
        "smolvlm",
        "SmolVLMForConditionalGeneration",
        {
            "vision_config": _VIT,
            "text_config": {**GROUPED, "model_type": "llama"},
            "image_token_id": 4,
            "scale_factor": 2,
        },
        batch=images_in_text,
    ),
    _both(
        "qwen2_vl",
        "Qwen2VLForConditionalGeneration",
        {
            "vision_config": {**_QWEN_VISION, "embed_dim": 32, "hidden_size": 32, "mlp_ratio": 2},
            "text_config": _qwen_text([1, 1, 2]),
            **_QWEN_TOKENS,
        },
        batch=grid_in_text,
    ),
    _both(
        "qwen3_vl",
        "Qwen3VLForConditionalGeneration",
        {
            "vision_config": {
                **_QWEN_VISION,
                "hidden_size": 32,
                "out_hidden_size": 32,
                "intermediate_size": 48,
                "num_position_embeddings": 16,
                "deepstack_visual_indexes": [0],
            },
            "text_config": _qwen_text([2, 1, 1]),
            **_QWEN_TOKENS,
        },
        batch=grid_in_text,
    ),
    _both(
        "mllama",
        "MllamaForConditionalGeneration",
        {
            "vision_config": {
                "hidden_size": 32,
                "intermediate_size": 48,
                "num_hidden_layers": 2,
                "num_global_layers": 1,
                "attention_heads": 4,
                "image_size": 16,
                "patch_size": 8,
                "max_num_tiles": 2,
                "vision_output_dim": 64,
                "intermediate_layers_indices": [0],
                "supported_aspect_ratios": [[1, 1], [1, 2], [2, 1]],
            },
            "text_config": {
                **GROUPED,
                "num_hidden_layers": 3,
                "cross_attention_layers": [1],
                "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
            },
            "image_token_index": 4,
        },
        batch=tiles_beside_text,
    ),
)
