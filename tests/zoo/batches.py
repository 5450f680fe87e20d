"""What models of each kind read: two samples, the same at every call."""

import torch
from torch import Tensor

#: The token that stands for a patch of an image.
IMAGE = 4
LENGTH = 8


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def text() -> dict[str, Tensor]:
    tokens = torch.randint(8, 97, (2, LENGTH), generator=_generator())
    return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}


def globally_attended() -> dict[str, Tensor]:
    """Of which the first token attends to all others, through projections of its own."""
    attended = torch.zeros(2, LENGTH, dtype=torch.long)
    attended[:, 0] = 1
    return {**text(), "global_attention_mask": attended}


def text_to_text() -> dict[str, Tensor]:
    batch = text()
    return {**batch, "decoder_input_ids": batch["input_ids"][:, :5].flip(0)}


def globally_attended_to_text() -> dict[str, Tensor]:
    return text_to_text() | globally_attended()


def image(size: int = 16) -> dict[str, Tensor]:
    return {"pixel_values": torch.randn(2, 3, size, size, generator=_generator())}


def masked_image() -> dict[str, Tensor]:
    return {**image(), "noise": torch.rand(2, 4, generator=_generator())}


def image_and_text() -> dict[str, Tensor]:
    return {**image(), **text()}


def image_in_text(patches: int = 4) -> dict[str, Tensor]:
    batch = image_and_text()
    batch["input_ids"][:, 1 : 1 + patches] = IMAGE
    return batch


def image_in_typed_text() -> dict[str, Tensor]:
    batch = image_in_text()
    return {**batch, "token_type_ids": (batch["input_ids"] == IMAGE).long()}


def images_in_text() -> dict[str, Tensor]:
    batch = image_in_text(patches=1)
    return {**batch, "pixel_values": batch["pixel_values"][:, None]}


def grid_in_text() -> dict[str, Tensor]:
    """Qwen's: an image of 4 × 4 patches, each four of which become one token."""
    batch = text()
    batch["input_ids"][:, 1:7] = torch.tensor([5, IMAGE, IMAGE, IMAGE, IMAGE, 6])
    return {
        **batch,
        "pixel_values": torch.randn(32, 3 * 2 * 4 * 4, generator=_generator()),
        "image_grid_thw": torch.tensor([[1, 4, 4], [1, 4, 4]]),
        "mm_token_type_ids": (batch["input_ids"] == IMAGE).int(),
    }


def tiles_beside_text() -> dict[str, Tensor]:
    """Mllama's, which attends to its images from layers of their own."""
    batch = text()
    batch["input_ids"][:, 1] = IMAGE
    return {
        **batch,
        "pixel_values": torch.randn(2, 1, 2, 3, 16, 16, generator=_generator()),
        "aspect_ratio_ids": torch.ones(2, 1, dtype=torch.long),
        "aspect_ratio_mask": torch.ones(2, 1, 2, dtype=torch.long),
        "cross_attention_mask": torch.ones(2, LENGTH, 1, 2, dtype=torch.long),
    }


def waveform() -> dict[str, Tensor]:
    return {"input_values": torch.randn(2, 200, generator=_generator())}


def spectrogram() -> dict[str, Tensor]:
    return {"input_values": torch.randn(2, 16, 8, generator=_generator())}


def features() -> dict[str, Tensor]:
    return {"input_features": torch.randn(2, 32, 8, generator=_generator())}


def features_to_text() -> dict[str, Tensor]:
    return {
        "input_features": torch.randn(2, 8, 16, generator=_generator()),
        "decoder_input_ids": text()["input_ids"],
    }
