"""``layerlens plan`` and ``profile``: three files, the same bytes each time, JSON for machines."""

import hashlib
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from layerlens_core import tracing
from layerlens_core.values.costs import Limits
from layerlens_core.values.plan import Plan
from layerlens_core.values.profile import Profile
from word_list import WORDS

Model = Callable[[str], str]
Data = Callable[[str], str]
FILES = ["plan.json", "profile.json", "trace.jsonl"]


@pytest.mark.parametrize(
    ("family", "form", "task", "layers"),
    [
        ("llama", "text", "causal-lm", "model.layers"),
        ("llama", "pairs", "causal-lm", "model.layers"),
        ("bert", "labelled", "sequence-classification", "bert.encoder.layer"),
        ("llama", "labelled", "sequence-classification", "model.layers"),
        ("bert", "text", "masked-lm", "bert.encoder.layer"),
        ("t5", "pairs", "seq2seq-lm", "encoder.block"),
    ],
)
def test_every_task_is_planned_twice_the_same(
    layerlens: Any, model: Model, data: Data, tmp_path: Path, family: str, form: str, task: str, layers: str
) -> None:
    arguments = ("plan", model(family), "--data", data(form), "--budget", "params=r=2", "--out")
    shown = layerlens.ok(*arguments, tmp_path / "one")
    layerlens.ok(*arguments, tmp_path / "two")

    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == FILES
    for name in ("plan.json", "profile.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    plan, profile = Plan.load(tmp_path / "one"), Profile.load(tmp_path / "one")
    assert plan.task == profile.task == task
    assert profile.samples == 12 or task == "masked-lm"  # a short text may get no masked token
    assert plan.limit == profile.inventory.lora_parameters(2)
    assert (plan.request.budget, plan.limits) == (("params=r=2",), Limits(params=plan.limit))
    assert 0 < plan.parameters <= plan.limit
    assert plan.parameters == sum(decision.parameters for decision in plan.decisions)
    assert [decision.unit for decision in plan.decisions] == [layer.name for layer in profile.inventory.layers]
    assert all(decision.unit.startswith(layers.split(".")[0]) or family == "t5" for decision in plan.decisions)
    # A dozen samples support nothing but uniform.
    assert plan.abstained == f"{profile.samples} samples are fewer than 16"
    assert set(plan.sizes("lora").values()) == {2}
    assert f"{plan.parameters:,} trainable parameters planned" in shown.stdout
    assert str(tmp_path / "one") in shown.stderr


def test_another_seed_draws_and_masks_otherwise(layerlens: Any, model: Model, data: Data, tmp_path: Path) -> None:
    arguments = ("profile", model("bert"), "--data", data("text"), "--samples", 8)
    layerlens.ok(*arguments, "--seed", 0, "--out", tmp_path / "zero")
    layerlens.ok(*arguments, "--seed", 1, "--out", tmp_path / "one")
    assert Profile.load(tmp_path / "zero").data != Profile.load(tmp_path / "one").data


def test_the_micro_batch_does_not_change_the_plan(layerlens: Any, model: Model, data: Data, tmp_path: Path) -> None:
    arguments = ("plan", model("llama"), "--data", data("text"), "--budget", "params=r=2", "--dtype", "float64")
    layerlens.ok(*arguments, "--micro-batch", 1, "--out", tmp_path / "one")
    layerlens.ok(*arguments, "--micro-batch", 8, "--out", tmp_path / "eight")
    one, eight = Plan.load(tmp_path / "one"), Plan.load(tmp_path / "eight")
    assert [d.sizes for d in one.decisions] == [d.sizes for d in eight.decisions]


def test_json_is_exactly_the_plan(layerlens: Any, model: Model, data: Data, tmp_path: Path) -> None:
    out = tmp_path / "run"
    result = layerlens.ok("plan", model("bert"), "--data", data("labelled"), "--out", out, "--json")
    assert result.stdout_bytes == (out / "plan.json").read_bytes()
    assert json.loads(result.stdout)["task"] == "sequence-classification"
    again = layerlens.ok("allocate", out, "--budget", "params=r=1", "--json")
    assert again.stdout_bytes == (out / "plan.json").read_bytes() != result.stdout_bytes
    assert layerlens.ok("explain", out, "--json").stdout_bytes == again.stdout_bytes


def test_overwriting_replaces_the_run(layerlens: Any, run: Callable[..., Path], model: Model, data: Data) -> None:
    there = run()
    before = Plan.load(there)
    layerlens.ok("plan", model("llama"), "--data", data("text"), "--out", there, "--overwrite")
    assert Plan.load(there).architecture == "LlamaForCausalLM" != before.architecture
    layerlens.ok("explain", there, "0")


def test_profiling_alone_leaves_no_plan_of_earlier(
    layerlens: Any, run: Callable[..., Path], model: Model, data: Data
) -> None:
    there = run()
    result = layerlens.ok("profile", model("llama"), "--data", data("text"), "--out", there, "--overwrite")
    assert sorted(path.name for path in there.iterdir()) == ["profile.json", "trace.jsonl"]
    assert "12 samples, mean loss " in result.stderr
    assert result.stdout == f"{there}\n"
    layerlens.ok("allocate", there)
    assert Plan.load(there).request.budget == ("params=r=8",)


def test_weights_that_stay_random_are_told(layerlens: Any, model: Model, data: Data, tmp_path: Path) -> None:
    result = layerlens.ok("plan", model("bert"), "--data", data("labelled"), "--out", tmp_path / "classify")
    assert "Warning: " in result.stderr
    assert "has no bert.pooler.dense.bias, bert.pooler.dense.weight for sequence-classification" in result.stderr
    assert "classifier" not in result.stderr  # the head is new and trains in full
    result = layerlens.ok("plan", model("bert"), "--data", data("text"), "--out", tmp_path / "masked")
    assert "Warning" not in result.stderr


def test_a_classifier_keeps_the_order_of_the_classes_that_it_knows(
    layerlens: Any, own_model: Callable[[str], Path], data: Data, tmp_path: Path
) -> None:
    import transformers

    names = {0: "dog", 1: "cat", 2: "bird"}
    trained = own_model("bert")
    transformers.AutoModelForSequenceClassification.from_pretrained(
        trained, num_labels=3, id2label=names, label2id={name: i for i, name in names.items()}
    ).save_pretrained(trained)
    result = layerlens.ok("plan", trained, "--data", data("labelled"), "--out", tmp_path / "run")
    assert Profile.load(tmp_path / "run").labels == ("dog", "cat", "bird")
    assert "Warning" not in result.stderr


def test_a_classifier_of_other_classes_gets_a_new_head(
    layerlens: Any, own_model: Callable[[str], Path], data: Data, tmp_path: Path
) -> None:
    import transformers

    trained = own_model("bert")
    transformers.AutoModelForSequenceClassification.from_pretrained(trained, num_labels=2).save_pretrained(trained)
    layerlens.ok("plan", trained, "--data", data("labelled"), "--out", tmp_path / "run")
    plan = Plan.load(tmp_path / "run")
    assert [(head.name, head.parameters) for head in plan.heads] == [("classifier", 3 * 16 + 3)]


def test_the_trace_records_what_was_asked_for(layerlens: Any, finished_runs: dict[str, Path]) -> None:
    first = tracing.read(finished_runs["bert-classifier"])[0]
    assert (first["event"], first["command"]) == ("run.started", "plan")
    assert first["arguments"]["seed"] == "0"
    assert first["arguments"]["budgets"] == ["params=r=2"]
    assert first["arguments"]["metrics"] == ["fisher=2", "weight_gradient=1"]
    assert "as_json" not in first["arguments"]
    assert set(first["versions"]) == {"python", "layerlens", "torch", "transformers", "peft", "numpy", "platform"}


def test_directions_lie_beside_the_profile_and_go_with_it(
    layerlens: Any, model: Model, data: Data, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    arguments = (model("llama"), "--data", data("text"), "--samples", 4, "--out", out)
    layerlens.ok("plan", *arguments, "--directions")
    profile = Profile.load(out)
    content = (out / "directions.safetensors").read_bytes()
    assert profile.directions == hashlib.sha256(content).hexdigest()
    layerlens.ok("profile", *arguments, "--overwrite")
    assert Profile.load(out).directions is None
    assert not (out / "directions.safetensors").exists()


@pytest.mark.parametrize("scores", ["sketch", "auto"])
def test_scores_may_be_sketched(layerlens: Any, model: Model, data: Data, tmp_path: Path, scores: str) -> None:
    arguments = (
        "profile",
        model("llama"),
        "--data",
        data("text"),
        "--samples",
        8,
        "--out",
        tmp_path,
        "--scores",
        scores,
    )
    layerlens.ok(*arguments, "--metric", "fisher")
    profile = json.loads((tmp_path / "profile.json").read_text())
    assert profile["settings"]["scores"] == scores
    assert "use --scores exact" in layerlens.refused(*arguments, "--overwrite", out=tmp_path)


@pytest.mark.parametrize("meaningful", [True, False])
@pytest.mark.parametrize("options", [(), pytest.param(("--check-labels",), marks=pytest.mark.slow)])
def test_labels_that_mean_nothing_make_a_uniform_plan(layerlens, model, write, tmp_path, meaningful, options):
    draw = random.Random(0)
    words = WORDS[:3]
    labels = [number % 3 for number in range(96)]
    texts = [" ".join([words[label]] * 5) for label in labels]
    if not meaningful:
        draw.shuffle(labels)
    rows = [{"text": text, "label": f"class {label}"} for text, label in zip(texts, labels, strict=True)]
    out = tmp_path / "run"
    result = layerlens.ok(
        "plan", model("bert"), "--data", write("rows.jsonl", rows), "--budget", "params=r=4", "--out", out,
        "--samples", 96, *options,
    )  # fmt: skip
    warmed_up = bool(options) and not meaningful
    assert f"own labels are {'learned better' if warmed_up else 'more alike'}" in result.stderr.replace(
        "samples of like labels", "own labels"
    )
    plan = Plan.load(out)
    if meaningful:
        assert plan.abstained is None
    else:
        assert "the labels may have nothing to do with the inputs" in plan.abstained
        assert set(plan.sizes("lora").values()) == {4}
        left_out = tmp_path / "left-out"
        layerlens.ok(
            "plan", model("bert"), "--data", tmp_path / "rows.jsonl", "--budget", "params=r=4", "--out", left_out,
            "--samples", 96, "--no-check-labels",
        )  # fmt: skip
        assert Plan.load(left_out).abstained is None
