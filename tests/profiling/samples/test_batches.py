"""Whatever a collator leaves in a batch is read as it is meant, or refused by name."""

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st

import zoo
from layerlens_core.errors import DataError
from layerlens_core.profiling.samples.batches import split
from layerlens_core.profiling.samples.sample import IGNORED, collate

TEXT = {
    "input_ids": torch.tensor([[5, 6, 7, 8], [9, 10, 11, 1]]),
    "attention_mask": torch.tensor([[1] * 4, [1, 1, 1, 0]]),
}


def ids(samples):
    return [sample["input_ids"].tolist() for sample in samples]


def refused(batch, match, task="causal-lm", model=None):
    with pytest.raises(DataError, match=match) as caught:
        split([batch], task, model)
    assert "batch 0" in str(caught.value)


@given(st.lists(st.lists(st.integers(4, 96), min_size=1, max_size=6), min_size=1, max_size=5), st.data())
def test_documents_come_out_of_a_packed_row_as_they_went_in(documents, data):
    options = {"return_position_ids": True} | {
        key: data.draw(st.booleans()) for key in ("return_flash_attn_kwargs", "return_seq_idx")
    }
    collator = transformers.DataCollatorWithFlattening(**options)
    assert ids(split([collator([{"input_ids": document} for document in documents])], "causal-lm")) == documents


@pytest.mark.parametrize(
    "told",
    [
        {"position_ids": torch.tensor([[0, 1, 0, 1]])},
        {"seq_idx": torch.tensor([[0, 0, 1, 1]])},
        {"cu_seq_lens_q": torch.tensor([0, 2, 4]), "cu_seq_lens_k": torch.tensor([0, 2, 4])},
        {"seq_lengths": torch.tensor([[2, 2]])},
    ],
)
def test_each_way_to_tell_documents_apart_is_understood(told):
    assert ids(split([{"input_ids": torch.tensor([[5, 6, 7, 8]]), **told}], "causal-lm")) == [[5, 6], [7, 8]]


def test_what_tells_documents_apart_in_two_ways_is_refused():
    refused(
        {
            "input_ids": torch.tensor([[5, 6, 7, 8]]),
            "position_ids": torch.tensor([[0, 1, 0, 1]]),
            "seq_idx": torch.tensor([[0, 1, 1, 1]]),
        },
        "position_ids and seq_idx tell of different documents",
    )
    refused({"input_ids": torch.tensor([[5, 6]]), "cu_seq_lens_q": torch.tensor([0, 3])}, "does not divide")
    refused({"input_ids": torch.tensor([[5, 6]]), "position_ids": torch.tensor([[3, 4]])}, "go on at 3")
    refused({"input_ids": torch.tensor([[5, 6]]), "position_ids": torch.zeros(3, 1, 2)}, "position_ids has shape")
    refused({**TEXT, "labels": torch.tensor([0, 1]), "position_ids": torch.tensor([[0, 1, 0, 1]] * 2)},
            "needs one a row", task="sequence-classification")  # fmt: skip


def test_positions_of_padded_rows_are_no_documents():
    left = {
        "input_ids": torch.tensor([[1, 1, 5, 6, 7]]),
        "attention_mask": torch.tensor([[0, 0, 1, 1, 1]]),
        "position_ids": torch.tensor([[1, 1, 0, 1, 2]]),
    }
    assert ids(split([left], "causal-lm")) == [[5, 6, 7]]


@pytest.mark.parametrize("key", ["completion_mask", "assistant_masks", "loss_mask"])
def test_masks_of_the_loss_become_labels(key):
    mask = torch.tensor([[0, 0, 1, 1], [0, 1, 1, 0]])
    first, second = split([{**TEXT, key: mask}], "causal-lm")
    assert first["labels"].tolist() == [IGNORED, IGNORED, 7, 8]
    assert second["labels"].tolist() == [IGNORED, 10, 11]
    both = {**TEXT, key: mask, "labels": torch.tensor([[5, IGNORED, IGNORED, 8], [9, 10, 11, IGNORED]])}
    assert split([both], "causal-lm")[0]["labels"].tolist() == [IGNORED, IGNORED, IGNORED, 8]
    refused({**TEXT, key: mask}, f"{key}, which says nothing for masked-lm", task="masked-lm")
    refused({**TEXT, key: mask[:, :2]}, f"{key} has shape")


def test_what_tokenizers_and_trainers_leave_behind_is_dropped():
    left = {
        "special_tokens_mask": torch.zeros(2, 4), "offset_mapping": torch.zeros(2, 4, 2), "length": [4, 3],
        "text": ["a", "b"], "num_items_in_batch": 7, "nothing": None,
    }  # fmt: skip
    assert [set(sample) for sample in split([{**TEXT, **left}], "causal-lm")] == [{"input_ids", "attention_mask"}] * 2


def test_what_a_model_would_swallow_is_refused_by_name():
    model = zoo.build("llama")
    for key in ("idx", "weights", "use_cache", "output_attentions", "past_key_values", "inputs_embeds"):
        refused({**TEXT, key: torch.tensor([1, 2])}, f"column '{key}', whose meaning is not known", model=model)
    refused({**TEXT, "bbox": torch.zeros(2, 4, 4)}, "column 'bbox', which this model does not read", model=model)
    refused({**TEXT, "token_type_ids": torch.ones(2, 4)}, "column 'token_type_ids'", model=model)
    assert set(split([{**TEXT, "token_type_ids": torch.zeros(2, 4)}], "causal-lm", model)[0]) == set(TEXT)


def test_columns_of_other_sizes_are_refused():
    refused({**TEXT, "labels": torch.zeros(3, 4, dtype=torch.long)}, "labels has shape .* but input_ids has 2 rows")
    refused({**TEXT, "labels": torch.zeros(2, 5, dtype=torch.long)}, "labels has shape .* but there are 4 tokens")
    refused({**TEXT, "attention_mask": torch.zeros(2, 1, 4, 4)}, "attention_mask has shape")
    refused({**TEXT, "attention_mask": torch.tensor([[1, 1, 2, 2]] * 2)}, "other numbers than 0 and 1")
    refused({"input_ids": torch.zeros(2, 3, 4)}, "input_ids has shape")
    refused({"input_ids": torch.rand(2, 3)}, "must be token ids")
    refused({"input_features": torch.rand(2, 3)}, "neither input_ids nor pixel_values; it has: input_features")
    refused([1, 2], "must be a mapping")
    refused({"input_ids": [[1, 2], [3]]}, "input_ids is no tensor")


def test_labels_of_every_kind_of_problem():
    regression = zoo.find("bert-classifier").with_config(num_labels=1).build()
    assert split([{**TEXT, "labels": [4, 2]}], "sequence-classification", regression)[0]["labels"].item() == 4
    several = zoo.find("bert-classifier").with_config(problem_type="multi_label_classification").build()
    labels = torch.tensor([[1, 0, 1], [0, 0, 1]])
    first, _ = split([{**TEXT, "labels": labels}], "sequence-classification", several)
    assert (first["labels"].dtype, first["labels"].tolist()) == (torch.float32, [1, 0, 1])
    column = split([{**TEXT, "labels": torch.tensor([[1], [2]])}], "sequence-classification")
    assert [sample["labels"].item() for sample in column] == [1, 2]
    named = split([{**TEXT, "label": np.array([1, 2])}], "sequence-classification")
    assert [sample["labels"].item() for sample in named] == [1, 2]


def test_decoder_inputs_go_with_the_labels():
    labels = torch.tensor([[5, 6, 2], [7, 2, IGNORED]])
    batch = {**TEXT, "labels": labels, "decoder_input_ids": torch.tensor([[2, 5, 6], [2, 7, 1]])}
    first, second = split([batch], "seq2seq-lm")
    assert second["decoder_input_ids"].tolist() == [2, 7]
    assert collate([first, second], 1)["decoder_input_ids"].tolist() == [[2, 5, 6], [2, 7, 1]]
    mask = (labels != IGNORED).long()
    assert len(split([{**batch, "decoder_attention_mask": mask}], "seq2seq-lm")) == 2
    refused({**batch, "decoder_attention_mask": mask * 0}, "decoder_attention_mask hides labels", task="seq2seq-lm")
    refused({**batch, "decoder_input_ids": torch.tensor([[2], [2]])}, "shorter than the labels", task="seq2seq-lm")


def grids(*images):
    """Qwen's batch: for each sample its images' sides in patches; four patches make a token."""
    rows = [[5, *[4] * sum(a * b // 4 for a, b in sides), 6] for sides in images]
    longest = max(map(len, rows))
    sides = [side for sample in images for side in sample]
    patches = sum(a * b for a, b in sides)
    return {
        "input_ids": torch.tensor([row + [1] * (longest - len(row)) for row in rows]),
        "attention_mask": torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows]),
        "pixel_values": torch.arange(patches)[:, None].repeat(1, 3).float(),
        "image_grid_thw": torch.tensor([[1, a, b] for a, b in sides]),
    }


def test_images_go_with_the_sample_that_holds_their_places():
    model = zoo.build("qwen2_vl")
    batch = grids([(4, 4), (2, 4)], [], [(4, 2)])
    first, second, third = split([batch], "causal-lm", model)
    assert first["pixel_values"][:, 0].tolist() == list(range(24))
    assert first["image_grid_thw"].tolist() == [[1, 4, 4], [1, 2, 4]]
    assert "pixel_values" not in second
    assert third["pixel_values"][:, 0].tolist() == list(range(24, 32))
    again = collate([first, third], 1)
    assert (again["pixel_values"] == batch["pixel_values"]).all()
    assert (again["image_grid_thw"] == batch["image_grid_thw"]).all()
    wrong = {**batch, "image_grid_thw": batch["image_grid_thw"][:2]}
    refused(wrong, "which sample has which of pixel_values .* give one sample a batch", model=model)
    assert len(split([grids([(4, 4)])], "causal-lm", model)) == 1
