"""Images and sounds beside text: which of them belong to which sample of a batch.

A processor puts the images of all samples one after the other, or their patches, so that no size tells whose they are.
The text tells: each image has its placeholders there.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from layerlens_core.errors import DataError
from layerlens_core.profiling.samples.columns import MEDIA
from layerlens_core.profiling.samples.sample import Sample

#: How configurations name the token that stands for a part of an image or a video.
_PLACEHOLDERS = {
    "image": ("image_token_id", "image_token_index", "img_token_id", "media_placeholder_token_id"),
    "video": ("video_token_id", "video_token_index"),
}
_GRIDS = {"image": "image_grid_thw", "video": "video_grid_thw"}
_PATCHES = {"image": "pixel_values", "video": "pixel_values_videos"}


def media_of_samples(columns: Mapping[str, Tensor], ids: Tensor, config: Any, where: str) -> list[Sample]:
    """The images, videos and sounds of each sample, each with a leading dimension that counts them (or patches).

    columns: of a batch.
    ids: its tokens [samples, T].
    config: of the model, which knows the placeholders; None where it is not at hand.
    where: names the batch in messages.

    Raises `DataError` where it cannot be told which sample they belong to.
    """
    samples: list[Sample] = [{} for _ in ids]
    for kind, keys in MEDIA.items():
        found = {key: columns[key] for key in keys if key in columns}
        if not found:
            continue
        if len(ids) == 1:
            samples[0] |= found
            continue
        for sample, parts in zip(samples, _apart(kind, found, ids, config, where), strict=True):
            sample.update(parts)
    return samples


def _apart(kind: str, found: Mapping[str, Tensor], ids: Tensor, config: Any, where: str) -> list[Sample]:
    """Columns of one kind, cut by sample."""
    grid, token = found.get(_GRIDS.get(kind, "")), _placeholder(kind, config)
    if kind == "audio":
        raise _unclear(found, where)
    if token is None or "aspect_ratio_ids" in found or _by_row(kind, found):
        # One image a sample, or images that are padded to one number: these do have a row for each sample.
        if any(len(value) != len(ids) for value in found.values()):
            raise _unclear(found, where)
        return [{key: value[row : row + 1] for key, value in found.items()} for row in range(len(ids))]
    placeholders = [int((row == token).sum()) for row in ids]
    if grid is not None:
        merged = getattr(getattr(config, "vision_config", None), "spatial_merge_size", 1) ** 2
        sizes = [int(patches) for patches in grid.prod(dim=1)]
        per_image = [size // merged for size in sizes]
    else:
        images = len(found[_PATCHES[kind]])
        if not images or sum(placeholders) % images or "image_sizes" in found:
            raise _unclear(found, where)
        sizes, per_image = [1] * images, [sum(placeholders) // images] * images
    counts = _counted(placeholders, per_image)
    if counts is None:
        raise _unclear(found, where)
    return _split(found, counts, sizes, _PATCHES[kind] if grid is not None else None)


def _counted(placeholders: Sequence[int], per_image: Sequence[int]) -> list[int] | None:
    """How many images each sample has, by its placeholders; None where they do not add up."""
    counts, at = [], 0
    for wanted in placeholders:
        begun = at
        while wanted > 0 and at < len(per_image):
            wanted -= per_image[at]
            at += 1
        if wanted:
            return None
        counts.append(at - begun)
    return counts if at == len(per_image) else None


def _split(
    found: Mapping[str, Tensor], counts: Sequence[int], sizes: Sequence[int], patches: str | None
) -> list[Sample]:
    """Cut columns by the number of images of each sample; the one of patches by their number."""
    samples: list[Sample] = []
    at = place = 0
    for count in counts:
        rows = sum(sizes[at : at + count])
        parts = {
            key: value[place : place + rows] if key == patches else value[at : at + count]
            for key, value in found.items()
        }
        samples.append(parts if count else {})
        at, place = at + count, place + rows
    return samples


def _placeholder(kind: str, config: Any) -> int | None:
    return next(
        (token for name in _PLACEHOLDERS.get(kind, ()) if (token := getattr(config, name, None)) is not None), None
    )


def _by_row(kind: str, found: Mapping[str, Tensor]) -> bool:
    """Whether samples have a row each, of images padded to one number: [samples, images, channels, height, width]."""
    patches = found.get(_PATCHES[kind])
    return patches is not None and patches.dim() == 5 and "image_sizes" not in found


def _unclear(found: Mapping[str, Tensor], where: str) -> DataError:
    names = ", ".join(f"{key} {tuple(value.shape)}" for key, value in found.items())
    return DataError(f"{where}: which sample has which of {names} cannot be told; give one sample a batch")


def with_leading(key: str, value: Tensor) -> Tensor:
    """A column of a sample that came without a batch, with the dimension that counts images."""
    ranks = {"pixel_values": 3, "image_sizes": 1, "image_grid_thw": 1, "video_grid_thw": 1, "pixel_mask": 2}
    return torch.unsqueeze(value, 0) if value.dim() == ranks.get(key) else value
