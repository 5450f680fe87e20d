"""What the columns of a batch mean. A column that is not known here is refused, since a model may swallow anything."""

import inspect
from collections.abc import Mapping

from transformers import PreTrainedModel

#: One entry a token of ``input_ids``, and what fills up shorter samples; ``input_ids`` take the padding token.
TOKENS: Mapping[str, int] = {
    "input_ids": 0, "attention_mask": 0, "token_type_ids": 0, "mm_token_type_ids": 0, "global_attention_mask": 0,
    "bbox": 0, "langs": 0, "cross_attention_mask": 0, "labels": -100, "decoder_input_ids": 0,
}  # fmt: skip

#: Which tokens a trainer computes the loss from; they become labels.
LOSS_MASKS = ("completion_mask", "assistant_masks", "assistant_mask", "loss_mask")

#: Where the documents of a packed row begin; they become samples.
PACKING = ("position_ids", "cu_seq_lens_q", "cu_seq_lens_k", "seq_idx", "seq_lengths")

#: What travels with the images, the videos and the sounds of a sample, which may be several or none.
MEDIA: Mapping[str, tuple[str, ...]] = {
    "image": (
        "pixel_values", "image_grid_thw", "image_sizes", "pixel_attention_mask", "pixel_mask", "spatial_shapes",
        "aspect_ratio_ids", "aspect_ratio_mask",
    ),
    "video": ("pixel_values_videos", "video_grid_thw", "second_per_grid_ts"),
    "audio": ("input_features", "input_features_mask", "feature_attention_mask"),
}  # fmt: skip
ALL_MEDIA = frozenset(key for keys in MEDIA.values() for key in keys)

#: What tokenizers and trainers leave behind and no model reads: dropped.
LEFT_BEHIND = frozenset({
    "special_tokens_mask", "offset_mapping", "length", "overflow_to_sample_mapping", "num_truncated_tokens",
    "num_items_in_batch", "max_length_q", "max_length_k", "decoder_attention_mask",
})  # fmt: skip

#: Other names of the same thing.
SYNONYMS = {"label": "labels", "label_ids": "labels"}


def accepted(model: PreTrainedModel) -> frozenset[str]:
    """The inputs that a model's forward pass names; what it takes beside them it may swallow."""
    return frozenset(inspect.signature(model.forward).parameters)
