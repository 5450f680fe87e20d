"""What every trainer asks of a plan, and keys that YAML reads as they were meant."""

import attrs
import pytest
import yaml

from layerlens_core.errors import FileError, PlanError
from layerlens_core.plugin.export import ExportRequest, other_methods, require_causal, require_lora, write_keys
from layerlens_core.values.costs import Cost, Limits
from layerlens_core.values.decisions import Decision
from layerlens_core.values.inventory import Head, Inventory
from layerlens_core.values.plan import Plan
from layerlens_core.values.profile import Profile
from layerlens_core.values.request import Request


def planned(*methods, task="causal-lm", heads=()):
    """A plan that gives these methods to the layers L0, L1 …, each of size 2."""
    return Plan(
        profile="0" * 64,
        architecture="Toy",
        fingerprint="f",
        shapes={},
        task=task,
        request=Request(strategy="budget", budget=()),
        limits=Limits(),
        cost=Cost(),
        decisions=tuple(
            Decision(
                unit=f"L{i}", method=method, size=0 if method == "none" else 2,
                sizes={} if method == "none" else {f"L{i}.w": 2}, utility=0.5, cost=Cost(), reason="",
            )
            for i, method in enumerate(methods)
        ),
        heads=heads,
    )  # fmt: skip


def test_methods_other_than_lora_are_listed_with_their_layers():
    plan = planned("prefix", "lora", "adapter", "none", "prefix", "lora-experts")
    assert other_methods(plan) == {"adapter": ["L2"], "prefix": ["L0", "L4"]}
    assert other_methods(planned("lora", "none")) == {}


@pytest.mark.parametrize("methods", [("lora", "none"), ("none", "lora-experts")])
def test_lora_on_modules_and_experts_is_what_a_trainer_takes(methods):
    require_lora(planned(*methods), "a trainer")


@pytest.mark.parametrize(
    ("methods", "said"),
    [
        (("lora", "adapter"), "a trainer trains LoRA alone, but this plan gives adapter to L1; allocate again with"),
        (("prefix", "prefix", "adapter"), "gives adapter to L2 and prefix to L0 and 1 more layers; allocate again"),
        (("none", "none"), "the plan trains nothing: every layer is 'none'"),
    ],
)
def test_what_lora_cannot_express_is_refused_by_layer(methods, said):
    with pytest.raises(PlanError) as caught:
        require_lora(planned(*methods), "a trainer")
    assert said in str(caught.value)


def test_other_tasks_are_refused_with_their_heads():
    require_causal(planned("lora"), "a trainer")
    with pytest.raises(PlanError, match=r"this plan is for masked-lm; export it --to peft"):
        require_causal(planned("lora", task="masked-lm"), "a trainer")
    heads = (Head(name="score", parameters=5), Head(name="pooler", parameters=6))
    with pytest.raises(PlanError, match="is for sequence-classification with the head score, pooler; export it"):
        require_causal(planned("lora", task="sequence-classification", heads=heads), "a trainer")


@pytest.mark.parametrize(
    ("value", "line"),
    [(0.1, "k: 0.1"), (True, "k: true"), (None, "k: null"), ([1, "a"], 'k: [1, "a"]'), ("no", 'k: "no"')],
)
def test_values_are_json_in_a_line(tmp_path, value, line):
    path = write_keys(tmp_path / "keys.yaml", {"k": value}, "why")
    assert path.read_text() == f"# why\n{line}\n"
    assert yaml.safe_load(path.read_text()) == {"k": value}


def test_a_number_that_json_does_not_have_leaves_the_old_keys(tmp_path):
    path = write_keys(tmp_path / "keys.yaml", {"k": {"a": 1}}, "why")
    before = path.read_text()
    with pytest.raises(ValueError, match="Out of range"):
        write_keys(path, {"k": float("nan")}, "why")
    assert path.read_text() == before
    with pytest.raises(FileError, match="is a file"):
        write_keys(path / "below", {"k": 1}, "why")


def test_a_local_model_is_named_by_its_full_path(tmp_path, monkeypatch):
    profile = Profile(
        inventory=Inventory(architecture="Toy", model_type="toy", parameters=1, layers=()), task="causal-lm", scores=(),
        statistics=(), data="", samples=1, loss=0.0,
    )  # fmt: skip
    request = ExportRequest(
        plan=planned("lora"), profile=profile, model="here", out=tmp_path, adapter=lambda: (), say=print
    )
    monkeypatch.chdir(tmp_path)
    assert request.base == "here"
    (tmp_path / "here").mkdir()
    assert request.base == str(tmp_path / "here")
    assert attrs.evolve(request, model="somebody/here").base == "somebody/here"
