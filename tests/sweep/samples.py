"""Samples of each task, alone and as a collator leaves them."""

import inspect
from typing import Any

import torch
from torch import Tensor

from sweep.small import LABELS, VOCABULARY

Sample = dict[str, Tensor]
IGNORED, PAD, END = -100, 1, 3

#: Tokens of each sample, by the name of the pattern: as many as there are samples, or each of its own length.
PATTERNS = {"square": (4, 4, 4, 4), "ragged": (9, 7, 12, 5)}
#: Labels of each sample in sequence to sequence.
TARGETS = {"square": (4, 4, 4, 4), "ragged": (3, 6, 4, 5)}


def samples(model: Any, task: str, pattern: str) -> list[Sample]:
    """What one after the other goes through a model in plain training: no padding, no batch dimension."""
    generator = torch.Generator().manual_seed(1)
    if task == "image-classification" and "pixel_values" in inspect.signature(model.forward).parameters:
        if "spatial_shapes" in inspect.signature(model.forward).parameters:
            return _patches(model, generator)
        size = _image(model)
        return [
            {
                "pixel_values": torch.randn(_channels(model), *size, generator=generator, dtype=torch.float64),
                "labels": torch.tensor(number % LABELS),
            }
            for number in range(4)
        ]
    found = []
    lengths = (16,) * 4 if task == "image-classification" else PATTERNS[pattern]  # ImageGPT's, which are tokens
    for number, (length, target) in enumerate(zip(lengths, TARGETS[pattern], strict=True)):
        ids = torch.randint(8, VOCABULARY, (length,), generator=generator)
        sample = {"input_ids": ids, "attention_mask": torch.ones_like(ids), **_beside(model, length, generator)}
        if task == "sequence-classification":
            ids[-1] = END  # where models of sequence to sequence read a sentence's meaning
            sample["labels"] = torch.tensor(number % LABELS)
        elif task == "image-classification":
            sample["labels"] = torch.tensor(number % LABELS)
        elif task == "token-classification":
            sample["labels"] = torch.randint(0, LABELS, (length,), generator=generator)
        elif task == "masked-lm":
            sample["labels"] = torch.randint(8, VOCABULARY, (length,), generator=generator)
            sample["labels"][number % 3 :: 3] = IGNORED
        elif task == "seq2seq-lm" and model.config.is_encoder_decoder:
            sample["labels"] = torch.randint(8, VOCABULARY, (target,), generator=generator)
        else:
            sample["labels"] = ids.clone()
        found.append(sample)
    return found


def batches(found: list[Sample], pattern: str) -> list[Sample]:
    """As collators leave them: padded on the right into one batch; of images the ragged pattern is one a batch."""
    if "pixel_values" in found[0] and "input_ids" not in found[0] and pattern == "ragged":
        return [{key: value[None] for key, value in sample.items()} for sample in found]
    fill = {"input_ids": PAD, "labels": IGNORED}
    return [
        {
            key: torch.stack([sample[key] for sample in found])
            if found[0][key].dim() == 0 or key == "pixel_values"
            else torch.nn.utils.rnn.pad_sequence(
                [sample[key] for sample in found], batch_first=True, padding_value=fill.get(key, 0)
            )
            for key in found[0]
        }
    ]


def _beside(model: Any, length: int, generator: torch.Generator) -> Sample:
    """What else a model of text reads: boxes, of models of pages."""
    if "bbox" not in inspect.signature(model.forward).parameters:
        return {}
    corners = torch.randint(0, 1000, (length, 2, 2), generator=generator).sort(dim=1).values
    boxes = corners.flatten(1)
    return {"bbox": boxes.double() / 1000 if "Bros" in type(model).__name__ else boxes}


def _patches(model: Any, generator: torch.Generator) -> list[Sample]:
    """Of Siglip 2, images as patches, with the grid that they make up."""
    config = model.config.vision_config
    width = config.num_channels * config.patch_size**2
    return [
        {
            "pixel_values": torch.randn(config.num_patches, width, generator=generator, dtype=torch.float64),
            "pixel_attention_mask": torch.ones(config.num_patches, dtype=torch.long),
            "spatial_shapes": torch.tensor([4, config.num_patches // 4]),
            "labels": torch.tensor(number % LABELS),
        }
        for number in range(4)
    ]


def _image(model: Any) -> tuple[int, int]:
    size = getattr(model.config, "image_size", 32)
    if "train_size" in vars(model.config) and "Fourier" in type(model).__name__:
        size = 224
    return (int(size), int(size)) if isinstance(size, int) else (int(size[0]), int(size[1]))


def _channels(model: Any) -> int:
    return int(getattr(model.config, "num_channels", 3))
