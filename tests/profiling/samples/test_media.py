"""Images beside text: batches taken apart and put together again mean the same to every model of the zoo."""

import pytest
import torch

import zoo
from layerlens_core.errors import DataError
from layerlens_core.profiling.profile import profile
from layerlens_core.profiling.samples.batches import split
from layerlens_core.profiling.samples.sample import collate

SEEING = ("blip", "llava", "paligemma", "smolvlm", "qwen2_vl", "qwen3_vl", "mllama")


def built(name):
    model = zoo.find(name).build(dtype=torch.float64).eval()
    return model, {
        key: value.double() if value.is_floating_point() else value for key, value in zoo.find(name).batch().items()
    }


@pytest.mark.parametrize("name", SEEING)
def test_a_batch_means_the_same_after_it_was_taken_apart(name):
    model, batch = built(name)
    with torch.no_grad():
        logits = model(**batch).logits
        assert torch.equal(model(**collate(split([batch], "causal-lm", model), 1)).logits, logits)


@pytest.mark.parametrize("name", SEEING)
def test_scores_are_those_of_samples_run_alone(name):
    model, batch = built(name)
    together = profile(model, [batch, batch], metrics=("fisher",), task="causal-lm", micro_batch=4)
    alone = profile(model, [batch, batch], metrics=("fisher",), task="causal-lm", micro_batch=1)
    assert together.loss == pytest.approx(alone.loss, rel=1e-9)
    for one, other in zip(alone.statistics, together.statistics, strict=True):
        assert other.fisher == pytest.approx(one.fisher, rel=1e-8, abs=1e-30)


def test_images_of_other_sizes_do_not_share_a_batch():
    model, batch = built("llava")
    found = profile(model, [batch, {k: v for k, v in batch.items() if k != "pixel_values"} | {
        "input_ids": batch["input_ids"].masked_fill(batch["input_ids"] == 4, 5)
    }], metrics=("fisher",), task="causal-lm", micro_batch=4)  # fmt: skip
    assert found.samples == 4


def test_what_has_no_places_in_the_text_is_refused():
    model, batch = built("llava")
    with pytest.raises(DataError, match="which sample has which of pixel_values"):
        profile(model, [{**batch, "pixel_values": batch["pixel_values"][:1].repeat(3, 1, 1, 1)}], task="causal-lm")
