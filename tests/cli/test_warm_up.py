"""``--warm-up``: what it writes and says, and what is refused before a model is loaded."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from layerlens_core.files.directions import read_directions
from layerlens_core.values.plan import Plan
from layerlens_core.values.profile import Profile

Data = Callable[[str], str]
Model = Callable[[str], str]
SHORT = ("--warm-up", "3", "--warm-up-rank", "2", "--batch", "4")


def test_a_profile_says_and_records_what_the_warm_up_took(
    layerlens: Any, model: Model, data: Data, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    arguments = (model("llama"), "--data", data("text"), "--metric", "fisher", "--no-check-labels", "--out", out)
    result = layerlens.ok("profile", *arguments, *SHORT)
    found = Profile.load(out)
    record = found.warm_up
    assert record is not None
    assert (record.steps, record.rank, record.batch, record.samples) == (3, 2, 4, found.samples)
    assert hashlib.sha256((out / "subspace.safetensors").read_bytes()).hexdigest() == record.digest
    fingerprint = found.inventory.fingerprint
    assert len(read_directions(out, fingerprint=fingerprint, digest=record.digest, source="warm-up")) > 0
    assert [scores.metric for scores in found.scores] == ["fisher", "loss_change"]
    assert found.directions is None
    before, after = (line for line in result.stderr.splitlines() if line.startswith("warm-up: 3 steps of 4 of "))
    assert "gradients and AdamW's states" in before
    assert "at rank 2 and rate 0.0283 took " in after
    layerlens.ok("profile", *arguments, "--overwrite")
    assert Profile.load(out).warm_up is None
    assert not (out / "subspace.safetensors").exists()


@pytest.mark.parametrize(("metrics", "weight"), [((), 0.0), (("--metric", "fisher=2"), 0.0)])
def test_a_plan_weighs_what_was_named(
    layerlens: Any, model: Model, data: Data, tmp_path: Path, metrics: tuple[str, ...], weight: float
) -> None:
    """A metric that comes with the warm-up counts where it is named alone."""
    arguments = (model("llama"), "--data", data("text"), "--budget", "params=r=2", "--no-margins", *metrics, *SHORT)
    layerlens.ok("plan", *arguments, "--out", tmp_path / "run")
    weights = Plan.load(tmp_path / "run").request.weights
    assert weights is not None
    assert weights["loss_change"] == weight
    assert len(weights) == 2


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (("--warm-up", "0%"), "a warm-up of 0% is none; give more than 0 %"),
        (("--warm-up", "200%"), "at most 100 % of the run"),
        (("--warm-up", "a bit"), "is neither a share of the run, such as 10%, nor a number of steps"),
        (("--warm-up", "0"), "a warm-up of 0 steps is none"),
        (("--warm-up", "10%", "--shard"), "--warm-up trains adapters, which sharded weights do not allow"),
        (("--warm-up-rank", "8"), "--warm-up-rank is of a warm-up; give --warm-up, such as --warm-up 10%, too"),
        (("--epochs", "1"), "--epochs is of a warm-up"),
        (("--batch", "8"), "--batch is of a warm-up"),
    ],
)
def test_what_cannot_be_is_refused_before_loading(
    layerlens: Any, data: Data, tmp_path: Path, options: tuple[str, ...], match: str
) -> None:
    out = tmp_path / "run"
    message = layerlens.refused("profile", tmp_path, "--data", data("text"), *options, "--out", out, out=out)
    assert match in message


def test_fewer_samples_than_a_batch_are_refused(layerlens: Any, model: Model, data: Data, tmp_path: Path) -> None:
    out = tmp_path / "run"
    message = layerlens.refused(
        "profile", model("llama"), "--data", data("text"), "--warm-up", "10%", "--out", out, out=out
    )
    assert "a warm-up takes batches of 32 samples, but 12 have labels; profile more of them" in message


def test_cores_that_are_asked_for_pass_the_rehearsal(layerlens: Any, model: Model, data: Data, tmp_path: Path) -> None:
    arguments = (model("llama"), "--data", data("text"), "--budget", "params=r=0.5", "--no-margins", "--no-abstain")
    asked = ("--methods", "core,lora", "--directions", *SHORT)
    layerlens.ok("plan", *arguments, *asked, "--out", tmp_path / "run")
    assert "core" in {decision.method for decision in Plan.load(tmp_path / "run").decisions}
    refused = layerlens.refused("plan", *arguments, "--methods", "core,lora", "--out", tmp_path / "other")
    assert "the profile holds none" in refused
