"""A profile's warm-up: what it finds against a run that is written out, and everything else as without it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from torch import Tensor

import zoo
from layerlens_core.errors import DataError, FileError, LayerLensError, ModelError, NonFiniteError, ScoreError
from layerlens_core.files.directions import Subspace, are_orthonormal, read_directions
from layerlens_core.plugin import lora_layers, per_sample_losses, temporary_lora, untouched
from layerlens_core.profiling.engine.settings import Execution
from layerlens_core.profiling.profile import ProfileOptions, profile, profile_with
from layerlens_core.profiling.samples.sample import collate
from layerlens_core.profiling.warming import profiled
from layerlens_core.profiling.warming.options import WarmUpOptions
from layerlens_core.values.profile import Profile
from zoo.profiled import active_profile, build, samples, unlabelled

OPTIONS = WarmUpOptions(length=6, rank=4, batch=4, rate=5e-3)


def warmed(name: str, folder: Path, options: WarmUpOptions = OPTIONS, **others: Any) -> Profile:
    family = zoo.find(name)
    given = {"metrics": ["fisher"], **others}
    return profile(build(family, torch.float32), samples(family, count=12), warm_up=options, run=folder, **given)


def updates_by_hand(name: str, along: Subspace) -> tuple[dict[str, Tensor], dict[str, float]]:
    """The same warm-up written out, with a plain optimizer: dense updates, and falls by module."""
    given = active_profile(zoo.find(name), dtype=torch.float32)
    model, steps = given.model, OPTIONS.steps_on(12)
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    order: list[int] = []
    heads = [head.name for head in given.inventory.heads]
    ranks = dict.fromkeys(given.modules, OPTIONS.rank)
    with untouched(model), temporary_lora(model, ranks, scale=2, heads=heads) as tuned:
        layers = lora_layers(tuned)
        parts = {
            module: [layers[module].lora_A["default"].weight, layers[module].lora_B["default"].weight]
            for module in given.modules
        }
        for module, (a, _) in parts.items():
            # The norm of a row that `torch.nn.Linear` draws: uniform in ±1/√in.
            a.data.copy_(torch.as_tensor(along[module].right[: OPTIONS.rank]) / 3**0.5)
        trained = [parameter for parameter in tuned.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=OPTIONS.learning_rate, weight_decay=0.0)
        falls = dict.fromkeys(given.modules, 0.0)
        for step in range(steps):
            if len(order) < 4:
                order = torch.randperm(12, generator=generator).tolist()
            chosen, order = order[:4], order[4:]
            batch = collate([given.samples[i] for i in chosen], 0)
            optimizer.param_groups[0]["lr"] = OPTIONS.learning_rate * min(1.0, (steps - step) / (steps - 1))
            optimizer.zero_grad()
            per_sample_losses(model, batch, given.task).mean().backward()
            before = {name: [(p.detach().clone(), p.grad.clone()) for p in pair] for name, pair in parts.items()}
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            for module, pair in parts.items():
                for new, (old, gradient) in zip(pair, before[module], strict=True):
                    falls[module] += float((gradient.double() * (old - new.detach()).double()).sum())
        return {module: 2 * (b @ a).detach().double() for module, (a, b) in parts.items()}, falls


@pytest.mark.parametrize("name", ["llama", "bert-classifier", "gpt2"])
def test_subspaces_and_scores_are_those_of_a_run_that_is_written_out(tmp_path: Path, name: str) -> None:
    run = warmed(name, tmp_path, directions=tmp_path)
    fingerprint = run.inventory.fingerprint
    found = read_directions(tmp_path, fingerprint=fingerprint, source="warm-up")
    updates, falls = updates_by_hand(name, read_directions(tmp_path, fingerprint=fingerprint))
    assert found.keys() == updates.keys()
    for module, update in updates.items():
        left, right = (side.astype(np.float64) for side in found[module])
        columns, values, rows = np.linalg.svd(update.numpy())
        assert len(left) == OPTIONS.rank
        between = left @ update.numpy() @ right.T
        assert np.abs(between - np.diag(values[: len(left)])).max() <= 2e-2 * values[0], module
        assert np.linalg.norm(left.T @ between @ right - update.numpy()) <= 2e-2 * np.linalg.norm(update), module
        assert abs(left[0] @ columns[:, 0]) >= 0.999, module
        assert abs(right[0] @ rows[0]) >= 0.999, module
    scores = {each.metric: each for each in run.scores}["loss_change"]
    total = sum(falls.values())
    assert scores.values == pytest.approx({module: fall / total for module, fall in falls.items()}, abs=2e-3)
    assert (scores.errors, scores.granularity) == ({}, "module")


def test_it_is_recorded_and_its_file_goes_by_the_digest(tmp_path: Path) -> None:
    run = warmed("llama", tmp_path)
    record = run.warm_up
    assert record is not None
    assert attrs.evolve(record, seconds=0.0, digest="") == attrs.evolve(
        record, steps=6, rank=4, samples=12, rate=5e-3, batch=4, start="gradient", peak=0, seconds=0.0, digest=""
    )
    assert record.seconds > 0
    run.save(tmp_path)
    assert Profile.load(tmp_path) == run
    fingerprint = run.inventory.fingerprint
    found = read_directions(tmp_path, fingerprint=fingerprint, digest=record.digest, source="warm-up")
    assert set(found) == {module.name for module in run.inventory.modules}
    assert all(are_orthonormal(side) for pair in found.values() for side in pair)


def test_the_rank_is_at_most_the_smaller_width(tmp_path: Path) -> None:
    run = warmed("llama", tmp_path, attrs.evolve(OPTIONS, rank=1000))
    found = read_directions(tmp_path, fingerprint=run.inventory.fingerprint, source="warm-up")
    for module in run.inventory.modules:
        assert len(found[module.name].left) == min(module.in_features, module.out_features)


def bits(model: torch.nn.Module) -> Mapping[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("name", ["llama", "bert-classifier", "albert", "t5"])
def test_all_else_is_as_without_it(tmp_path: Path, name: str) -> None:
    """Scores and statistics to the last bit, and the model's weights, modules, gradients, modes and random state."""
    family = zoo.find(name)
    model, data = build(family, torch.float32), samples(family, count=12)
    before, modules, random = bits(model), dict(model.named_modules()), torch.get_rng_state()
    plain = profile(model, data, metrics=["fisher", "weight_gradient"])
    with_one = profile(model, data, metrics=["fisher", "weight_gradient"], warm_up=OPTIONS, run=tmp_path)
    assert bits(model) == before
    assert dict(model.named_modules()) == modules
    assert model.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), random)
    assert attrs.evolve(with_one, warm_up=None, scores=with_one.scores[:-1]) == plain
    assert [each.metric for each in with_one.scores] == ["fisher", "weight_gradient", "loss_change"]


def test_the_seed_decides_and_memory_does_not(tmp_path: Path) -> None:
    def found(folder: str, **others: Any) -> tuple[str, Mapping[str, Any]]:
        run = warmed("llama", tmp_path / folder, **others)
        assert run.warm_up is not None
        fingerprint = run.inventory.fingerprint
        return run.warm_up.digest, read_directions(tmp_path / folder, fingerprint=fingerprint, source="warm-up")

    (one, vectors), (two, _), (three, _), (_, singly) = (
        found("one"), found("two"), found("three", seed=1), found("four", micro_batch=1)
    )  # fmt: skip
    assert one == two != three
    for module, pair in vectors.items():
        assert abs(float(pair.left[0] @ singly[module].left[0])) > 0.999


def test_a_metric_that_was_asked_for_keeps_its_own_scores(tmp_path: Path) -> None:
    run = warmed("llama", tmp_path, metrics=["loss_change"])
    (scores,) = run.scores
    assert scores.errors
    assert run.warm_up is not None


def test_gradient_checkpointing_is_kept_and_changes_nothing_much(tmp_path: Path) -> None:
    family = zoo.find("llama")
    model, data = build(family, torch.float32), samples(family, count=12)
    plain = profile(model, data, metrics=["fisher"], warm_up=OPTIONS, run=tmp_path)
    model.gradient_checkpointing_enable()
    again = profile(model, data, metrics=["fisher"], warm_up=OPTIONS, run=tmp_path)
    assert again.scores[-1].values == pytest.approx(plain.scores[-1].values, abs=1e-3)


def test_what_it_takes_is_said_before_and_after_the_first_steps(tmp_path: Path) -> None:
    said: list[str] = []
    warmed("llama", tmp_path, attrs.evolve(OPTIONS, say=said.append))
    assert len(said) == 2
    assert said[0].startswith("warm-up: 6 steps of 4 of 12 samples (67% of a run of 9: 3 epochs), rank 4, rate 0.005; ")
    assert "parameters, " in said[0]
    assert "of activations" in said[0]
    assert said[1].startswith("warm-up: a step takes ")
    assert "the remaining 2 take about" in said[1]


def refused(error: type[LayerLensError], match: str, folder: Path, **given: Any) -> None:
    family = zoo.find("llama")
    data = given.pop("data", samples(family, count=12))
    model = given.pop("model", None) or build(family, torch.float32)
    with pytest.raises(error, match=match) as caught:
        profile(model, data, **{"metrics": ["fisher"], "warm_up": OPTIONS, "run": folder, **given})
    assert "\n" not in str(caught.value)
    assert not (folder / "subspace.safetensors").exists()


def test_what_cannot_be_warmed_up_is_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = zoo.find("llama")
    monkeypatch.setattr("layerlens_core.profiling.profile.measure", lambda *_, **__: pytest.fail("it was measured"))
    for length in ("0%", "101%", "much"):
        refused(DataError, "a warm-up of", tmp_path, warm_up=length)
    refused(DataError, r"give run=…", tmp_path, run=None, warm_up="10%")
    match = "takes batches of 32 samples, but 12 have labels; profile more of them"
    refused(DataError, match, tmp_path, warm_up="10%")
    classifier = zoo.find("bert-classifier")
    bare = [{key: value for key, value in one.items() if key != "labels"} for one in samples(classifier, count=40)]
    refused(DataError, "needs labels", tmp_path, model=build(classifier, torch.float32), data=bare, warm_up="10%")
    monkeypatch.setattr(profiled, "is_sharded", lambda model: True)
    refused(ModelError, "sharded weights do not allow; leave --warm-up or --shard out", tmp_path, model=build(family))


def test_divergence_is_told_and_leaves_the_model(tmp_path: Path) -> None:
    model = build(zoo.find("llama"), torch.float32)
    before = bits(model)
    huge = attrs.evolve(OPTIONS, rate=1e30)
    refused(NonFiniteError, r"the loss of the warm-up is nan in step \d", tmp_path, warm_up=huge, model=model)
    assert bits(model) == before


def test_a_rate_that_teaches_nothing_is_lowered_unless_it_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    falls = iter((-0.1, 0.0, 0.3))
    monkeypatch.setattr(profiled._Watch, "fall", property(lambda self: next(falls)))
    lower = attrs.evolve(OPTIONS, rate=None, rank=16, say=said.append)
    record = warmed("llama", tmp_path / "default", lower).warm_up
    assert record is not None
    assert record.rate == lower.learning_rate / 16
    told = [line for line in said if "once more" in line]
    assert told == [f"warm-up: the loss did not fall; once more at a rate of {rate}" for rate in (0.0025, 0.000625)]
    falls = iter((-0.1, 0.3))
    record = warmed("llama", tmp_path / "asked").warm_up
    assert record is not None
    assert record.rate == OPTIONS.rate


def test_a_default_rate_that_diverges_is_lowered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(WarmUpOptions, "learning_rate", property(lambda self: 1e30))
    refused(
        NonFiniteError, r"the loss of the warm-up is nan", tmp_path,
        warm_up=attrs.evolve(OPTIONS, rate=None, say=said.append),
    )  # fmt: skip
    assert sum("the loss diverged; once more" in line for line in said) == 2


@pytest.mark.parametrize(("losses", "fall"), [([4.0, 3, 3, 3, 1], 0.75), ([2.0], 0.0), ([1.0] * 9 + [3], -1.0)])
def test_the_fall_is_of_fifths(losses: list[float], fall: float) -> None:
    assert profiled._Watch(losses=[torch.tensor(float(each)) for each in losses]).fall == pytest.approx(fall)


def test_sketched_norms_give_no_directions_to_start_along(tmp_path: Path) -> None:
    record = warmed("llama", tmp_path, scores="sketched").warm_up
    assert record is not None
    assert record.start == "random"


def test_a_loss_that_does_not_fall_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiled._Watch, "falls", property(lambda self: {"a": -1.0, "b": 0.5}))
    refused(ScoreError, "the loss does not fall in the warm-up", tmp_path)


def test_memory_that_runs_out_halves_the_micro_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    expected = warmed("llama", tmp_path)

    def losses(model: Any, batch: Any, task: Any) -> Tensor:
        sizes.append(len(batch["input_ids"]))
        if sizes[-1] > 1:
            raise torch.OutOfMemoryError("out of memory")
        return per_sample_losses(model, batch, task)

    monkeypatch.setattr("layerlens_core.profiling.warming.train.per_sample_losses", losses)
    found = warmed("llama", tmp_path)
    assert sizes[:3] == [4, 2, 1]
    assert found.scores[-1].values == pytest.approx(expected.scores[-1].values, abs=1e-4)


def test_another_warm_up_does_not_go_on_from_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that was interrupted in its warm-up is resumed with this one alone, and ends with the same numbers."""
    family = zoo.find("llama")

    def run(folder: str, warm_up: WarmUpOptions = OPTIONS, *, resume: bool = False) -> str:
        given = WarmUpOptions.of(warm_up, tmp_path / folder)
        execution = Execution(run=tmp_path / folder, resume=resume, seconds=0.0)
        options = ProfileOptions(metrics=("fisher",), warm_up=given)
        record = profile_with(build(family, torch.float32), samples(family, count=12), options, execution).warm_up
        assert record is not None
        return record.digest

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(profiled, "warm_up", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run("there")
    assert (tmp_path / "there" / "profile.partial").exists()
    for other in (attrs.evolve(OPTIONS, length=7), attrs.evolve(OPTIONS, rank=3), attrs.evolve(OPTIONS, rate=1e-3)):
        with pytest.raises(FileError, match=r"of another run: its warm-up is 6 steps .* at rank 4 .*, not") as caught:
            run("there", other, resume=True)
        assert "\n" not in str(caught.value)
    assert run("there", resume=True) == run("whole")


def test_tokens_without_labels_are_their_own(tmp_path: Path) -> None:
    family = zoo.find("llama")
    run = profile(build(family, torch.float32), unlabelled(12), metrics=["fisher"], warm_up=OPTIONS, run=tmp_path)
    assert run.warm_up is not None
