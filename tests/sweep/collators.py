"""Batches as left by the collators of transformers and TRL, and the documents that they hold."""

from collections.abc import Callable
from typing import Any

import torch
import transformers
from attrs import evolve, frozen
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor

import zoo
from sweep.samples import IGNORED, PAD, Sample
from zoo.batches import IMAGE

LENGTHS = (9, 12, 7, 10)
_PATCHES = 16


@frozen(kw_only=True)
class Collated:
    """A collator's batches, and what they are made of.

    name: of the collator, with its options.
    family: of the model in the zoo.
    architecture: the model's class, where it is not the family's.
    task: that it is trained for.
    make: gives the batches and the documents: samples without padding, labelled as the collator means it.
    packed: whether documents share a row, so that nothing but the documents' own scores is right.
    """

    name: str
    family: str
    task: str
    make: Callable[[], tuple[list[Any], list[Sample]]]
    packed: bool = False
    architecture: str | None = None

    def model(self) -> Any:
        """In float64, with weights large enough."""
        family = zoo.find(self.family)
        if self.architecture is not None:
            family = evolve(family, architecture=self.architecture)
        return family.build(spread=0.2, dtype=torch.float64)


def documents(lengths: tuple[int, ...] = LENGTHS) -> list[list[int]]:
    """Token ids of four texts."""
    generator = torch.Generator().manual_seed(3)
    return [torch.randint(8, 97, (length,), generator=generator).tolist() for length in lengths]


def tokenizer() -> transformers.PreTrainedTokenizerFast:
    """Of 97 words, which collators ask for padding and masks alone."""
    words = {f"w{number}": number for number in range(97)}
    special = {"[PAD]": PAD, "[MASK]": 4, "[UNK]": 0}
    words = {**{word: number for word, number in words.items() if number not in special.values()}, **special}
    backend = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", mask_token="[MASK]", unk_token="[UNK]"
    )


def sample(ids: list[int], labels: Any = None) -> Sample:
    """A document, which is its own label unless another is given."""
    tokens = torch.tensor(ids)
    return {
        "input_ids": tokens,
        "attention_mask": torch.ones_like(tokens),
        "labels": tokens.clone() if labels is None else torch.tensor(labels),
    }


def rows(found: list[list[int]]) -> list[dict[str, list[int]]]:
    """As a tokenizer leaves them."""
    return [{"input_ids": ids, "attention_mask": [1] * len(ids)} for ids in found]


def default() -> tuple[list[Any], list[Sample]]:
    found = documents((8, 8, 8, 8))
    given = [{**row, "labels": row["input_ids"]} for row in rows(found)]
    return [transformers.default_data_collator(given)], [sample(ids) for ids in found]


def default_of_classes() -> tuple[list[Any], list[Sample]]:
    found = documents((8, 8, 8, 8))
    given = [{**row, "label": number % 3} for number, row in enumerate(rows(found))]
    apart = [sample(ids, number % 3) for number, ids in enumerate(found)]
    return [transformers.default_data_collator(given)], apart


def with_padding() -> tuple[list[Any], list[Sample]]:
    found = documents()
    given = [{**row, "label": number % 3} for number, row in enumerate(rows(found))]
    apart = [sample(ids, number % 3) for number, ids in enumerate(found)]
    return [transformers.DataCollatorWithPadding(tokenizer())(given)], apart


def language_modelling() -> tuple[list[Any], list[Sample]]:
    found = documents()
    collator = transformers.DataCollatorForLanguageModeling(tokenizer(), mlm=False)
    return [collator(rows(found)[:2]), collator(rows(found)[2:])], [sample(ids) for ids in found]


def masked() -> tuple[list[Any], list[Sample]]:
    torch.manual_seed(0)
    collator = transformers.DataCollatorForLanguageModeling(tokenizer(), mlm=True, mlm_probability=0.4)
    batch = collator(rows(documents()))
    apart = [
        sample(ids[:length].tolist(), labels[:length].tolist())
        for ids, labels, length in zip(batch["input_ids"], batch["labels"], LENGTHS, strict=True)
    ]
    return [batch], apart


def completion_only(key: str) -> Callable[[], tuple[list[Any], list[Sample]]]:
    """Without labels, but with a mask of what is to be learnt, as TRL's rows have."""

    def make() -> tuple[list[Any], list[Sample]]:
        found = documents()
        padded = tokenizer().pad(rows(found), return_tensors="pt")
        masks = [[int(place >= 3) for place in range(len(ids))] for ids in found]
        batch = {**padded, key: _padded(masks, 0)}
        apart = [
            sample(ids, [token if kept else IGNORED for token, kept in zip(ids, mask, strict=True)])
            for ids, mask in zip(found, masks, strict=True)
        ]
        return [batch], apart

    return make


def flattened(**options: Any) -> Callable[[], tuple[list[Any], list[Sample]]]:
    def make() -> tuple[list[Any], list[Sample]]:
        found = documents()
        collator = transformers.DataCollatorWithFlattening(**options)
        given = [{"input_ids": ids} for ids in found]
        apart = [sample(ids, [IGNORED, *ids[1:]]) for ids in found]
        return [collator(given[:2]), collator(given[2:])], apart

    return make


def pairs(model: bool) -> Callable[[], tuple[list[Any], list[Sample]]]:
    """model: whether the collator has the model, and then shifts the labels into the decoder's inputs itself."""

    def make() -> tuple[list[Any], list[Sample]]:
        found, targets = documents(), documents((3, 6, 5, 4))
        given = [{**row, "labels": labels} for row, labels in zip(rows(found), targets, strict=True)]
        collator = transformers.DataCollatorForSeq2Seq(tokenizer(), model=zoo.build("t5") if model else None)
        return [collator(given)], [sample(ids, labels) for ids, labels in zip(found, targets, strict=True)]

    return make


def tokens() -> tuple[list[Any], list[Sample]]:
    found = documents()
    labels = [[token % 3 for token in ids] for ids in found]
    given = [{**row, "labels": each} for row, each in zip(rows(found), labels, strict=True)]
    batch = transformers.DataCollatorForTokenClassification(tokenizer())(given)
    return [batch], [sample(ids, each) for ids, each in zip(found, labels, strict=True)]


def trl(packed: bool = False, **options: Any) -> Callable[[], tuple[list[Any], list[Sample]]]:
    """packed: rows hold two documents each, with their lengths, as TRL's packing by best fit leaves them."""

    def make() -> tuple[list[Any], list[Sample]]:
        from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

        found = documents()
        collator = DataCollatorForLanguageModeling(pad_token_id=PAD, **options)
        given: list[dict[str, Any]] = [{"input_ids": ids} for ids in found]
        if packed:
            given = [
                {"input_ids": [*one, *other], "seq_lengths": [len(one), len(other)]}
                for one, other in (found[:2], found[2:])
            ]
        return [collator(given)], [sample(ids) for ids in found]

    return make


def images(together: bool) -> Callable[[], tuple[list[Any], list[Sample]]]:
    """Qwen2-VL's: pixels are the patches of all images, [patches, width]. together: two samples a batch."""

    def make() -> tuple[list[Any], list[Sample]]:
        generator = torch.Generator().manual_seed(3)
        found = [ids.copy() for ids in documents()]
        pixels = torch.randn(len(found), _PATCHES, 96, generator=generator, dtype=torch.float64)
        for ids in found:
            ids[1:7] = [5, IMAGE, IMAGE, IMAGE, IMAGE, 6]
        apart = [
            {**sample(ids), "pixel_values": patches, **_grid(1), "mm_token_type_ids": _typed(torch.tensor(ids))}
            for ids, patches in zip(found, pixels, strict=True)
        ]
        size = 2 if together else 1
        batches = []
        for start in range(0, len(found), size):
            padded = tokenizer().pad(rows(found[start : start + size]), return_tensors="pt")
            ids = padded["input_ids"]
            labels = ids.masked_fill(padded["attention_mask"] == 0, IGNORED)
            patches = pixels[start : start + size].flatten(0, 1)
            beside = {"pixel_values": patches, **_grid(size), "mm_token_type_ids": _typed(ids)}
            batches.append({**padded, "labels": labels, **beside})
        return batches, apart

    return make


def _grid(images: int) -> Sample:
    return {"image_grid_thw": torch.tensor([[1, 4, 4]] * images)}


def _typed(ids: Tensor) -> Tensor:
    return (ids == IMAGE).int()


def _padded(values: list[list[int]], fill: int) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(
        [torch.tensor(each) for each in values], batch_first=True, padding_value=fill
    )
