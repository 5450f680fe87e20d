"""Exported keys are those that the trainers publish, and what a trainer cannot express is refused before writing."""

import dataclasses
import json
import typing
from pathlib import Path

import attrs
import pytest
import yaml

import layerlens_core as ll
from layerlens_builtin.exporters import axolotl, llama_factory, peft, trl
from layerlens_core.adaptation.config import lora_config
from layerlens_core.allocation.allocate import allocate
from layerlens_core.errors import FileError, PlanError
from layerlens_core.plugin.export import ExportRequest, other_methods, write_keys
from layerlens_core.plugin.registry import Registry
from layerlens_core.values.inventory import Experts, Head

SCHEMAS = Path(__file__).parents[1] / "fixtures" / "schemas"
#: Exporter -> the schema that its keys must follow.
PUBLISHED = {axolotl: "axolotl", llama_factory: "llamafactory", trl: "trl"}
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")


class PositiveInt:
    """Stands for pydantic's, in annotations."""


NAMESPACE = {"Any": typing.Any, "Literal": typing.Literal, "PositiveInt": PositiveInt}


def conforms(value, annotation):
    """Whether a value is of a type, without any conversion: no 1 for True, no 2 for 2.0."""
    if annotation is typing.Any:
        return True
    if annotation is PositiveInt:
        return type(value) is int and value > 0
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return value in arguments
    if origin is list:
        return type(value) is list and all(conforms(each, arguments[0]) for each in value)
    if origin is dict:
        return type(value) is dict and all(
            conforms(name, arguments[0]) and conforms(entry, arguments[1]) for name, entry in value.items()
        )
    if arguments:
        return any(conforms(value, each) for each in arguments)
    return type(value) is (type(None) if annotation is None else annotation)


def wrong_keys(keys, schema):
    """Keys that the schema does not have, or whose values are not of the type or not among those allowed."""
    fields, allowed = schema["fields"], schema["allowed"]
    return sorted(
        name
        for name, value in keys.items()
        if name not in fields
        or not conforms(value, eval(fields[name], dict(NAMESPACE)))
        or value not in allowed.get(name, [value])
    )


@pytest.fixture
def plan(make_profile):
    """Makes a plan for the BERT-shaped layers, called causal: LoRA, with ranks by score or all of one rank."""

    def make(scores=(1.0, 2.0, 9.0), *, rank=None, method="lora", task="causal-lm"):
        def select(candidates, limits, context):
            decide = [unit.decide("lora", rank or 2, reason="by hand") for unit in candidates.units]
            if rank is None:
                decide[0] = candidates.units[0].decide("lora", 5, reason="by hand")
                decide[1] = candidates.units[1].decide(method, 3 if method != "none" else 0, reason="by hand")
            return decide

        registry = Registry.discover()
        registry.register(ll.strategy("by-hand", select))
        made = allocate(
            make_profile(scores), strategy="by-hand", methods=list({"none", "lora", method}), registry=registry
        )
        return attrs.evolve(made, task=task)

    return make


@pytest.fixture
def request_for(make_profile, tmp_path):
    """Makes a request whose adapter has no weights, and which counts how often it was made."""

    def make(plan, *, out=None, model="somebody/model"):
        out = out or tmp_path / "out"
        calls, said = [], []

        def adapter():
            calls.append(out)
            out.mkdir(parents=True, exist_ok=True)
            if not other_methods(plan):
                lora_config(plan).save_pretrained(out)
            for name in ADAPTER_FILES:
                (out / name).touch()
            return tuple(out / name for name in ADAPTER_FILES)

        profile = make_profile([1.0])
        request = ExportRequest(plan=plan, profile=profile, model=model, out=out, adapter=adapter, say=said.append)
        return request, calls, said

    return make


def keys_of(exporter, request):
    *_, path = exporter.export(request)
    assert path == request.out / exporter.FILE_NAME
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("rank", [None, 4])
@pytest.mark.parametrize("exporter", [axolotl, llama_factory])
def test_keys_are_those_that_the_trainer_publishes(plan, request_for, exporter, rank):
    request, calls, said = request_for(plan(rank=rank))
    keys = keys_of(exporter, request)
    assert wrong_keys(keys, json.loads((SCHEMAS / f"{PUBLISHED[exporter]}.json").read_text())) == []
    assert (len(calls), len(said)) == (1, 1)
    assert str(request.out) in keys.values()


def test_keys_for_trl_are_those_that_it_publishes_and_need_no_model(plan, request_for):
    request, calls, _ = request_for(plan(rank=4))
    keys = keys_of(trl, request)
    assert wrong_keys(keys, json.loads((SCHEMAS / "trl.json").read_text())) == []
    assert calls == []
    assert (keys["lora_r"], keys["lora_alpha"], keys["use_peft"]) == (4, 8, True)


def test_the_schema_of_trl_is_that_of_the_installed_version():
    """The extract is no better than what it was taken from."""
    installed = pytest.importorskip("trl")
    schema = json.loads((SCHEMAS / "trl.json").read_text())
    assert installed.__version__ == schema["version"]
    assert {field.name for field in dataclasses.fields(installed.ModelConfig)} == set(schema["fields"])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lora_rank", 4),
        ("lora_r", "4"),
        ("lora_r", 4.0),
        ("lora_rank_pattern", {"q": 0}),
        ("lora_alpha_pattern", {"q": 2.0}),
        ("lora_target_modules", [1]),
        ("adapter", "lora2"),
        ("lora_target_linear", 1),
    ],
)
def test_the_check_of_keys_would_notice(name, value):
    assert wrong_keys({name: value}, json.loads((SCHEMAS / "axolotl.json").read_text())) == [name]


def test_patterns_are_left_out_where_one_rank_serves_all(plan, request_for):
    keys = keys_of(axolotl, request_for(plan(rank=4))[0])
    assert not {"lora_rank_pattern", "lora_alpha_pattern"} & set(keys)
    keys = keys_of(axolotl, request_for(plan())[0])
    assert (keys["lora_r"], keys["lora_alpha"]) == (5, 10)
    assert sorted(keys["lora_rank_pattern"].values()) == [2, 3]
    scales = {name: keys["lora_alpha_pattern"][name] / rank for name, rank in keys["lora_rank_pattern"].items()}
    assert set(scales.values()) == {2.0}


def test_patterns_of_any_length_can_be_read(tmp_path):
    """YAML readers take a key of more than 1,024 characters only where it is marked as one."""
    keys = {"lora_rank_pattern": {"q" * 5000: 4, "v": 2}}
    assert yaml.safe_load(write_keys(tmp_path / "keys.yaml", keys, "long").read_text()) == keys


@pytest.mark.parametrize("exporter", PUBLISHED)
@pytest.mark.parametrize("method", ["adapter", "prefix"])
def test_other_methods_are_refused_by_layer_before_anything_is_written(plan, request_for, exporter, method):
    request, calls, _ = request_for(plan(method=method))
    with pytest.raises(
        PlanError, match=rf"trains LoRA alone, but this plan gives {method} to bert\.encoder\.layer\.1;"
    ):
        exporter.export(request)
    assert calls == []
    assert not request.out.exists()


def test_a_refusal_counts_layers_by_method(plan, request_for):
    made = plan(range(1, 8))
    methods = ("prefix", "adapter", "adapter", "adapter")
    mixed = [attrs.evolve(each, method=name) for each, name in zip(made.decisions, methods, strict=False)]
    made = attrs.evolve(made, decisions=(*mixed, *made.decisions[4:]))
    with pytest.raises(PlanError) as caught:
        axolotl.export(request_for(made)[0])
    assert "adapter to bert.encoder.layer.1 and 2 more layers and prefix to bert.encoder.layer.0;" in str(caught.value)


@pytest.mark.parametrize("exporter", PUBLISHED)
def test_a_plan_that_trains_nothing_is_refused(plan, request_for, exporter):
    made = plan()
    made = attrs.evolve(made, decisions=tuple(attrs.evolve(d, method="none", sizes={}) for d in made.decisions))
    with pytest.raises(PlanError, match="trains nothing"):
        exporter.export(request_for(made)[0])


@pytest.mark.parametrize("exporter", PUBLISHED)
@pytest.mark.parametrize("task", ["sequence-classification", "seq2seq-lm", "masked-lm"])
def test_other_tasks_are_refused(plan, request_for, exporter, task):
    made = attrs.evolve(plan(rank=4, task=task), heads=(Head(name="classifier", parameters=5),))
    request, calls, _ = request_for(made)
    with pytest.raises(PlanError, match=f"for causal language models, but this plan is for {task} with the head class"):
        exporter.export(request)
    assert calls == []
    assert not request.out.exists()


def test_trl_refuses_several_ranks(plan, request_for):
    request, _, _ = request_for(plan())
    with pytest.raises(
        PlanError, match=r"no rank pattern, but this plan has ranks 2 to 5; .* as docs/examples/sft\.py"
    ):
        trl.export(request)
    assert not request.out.exists()
    assert (Path(__file__).parents[2] / trl.EXAMPLE).is_file()


def test_trl_refuses_a_start_that_it_would_draw_anew_and_experts(plan, request_for):
    request, _, _ = request_for(plan(rank=4))
    with pytest.raises(PlanError, match="--init gradient needs --to peft"):
        trl.export(attrs.evolve(request, init="gradient"))
    experts = Experts(name="mlp", layer=None, count=2, active=1, parameters=9)
    inventory = attrs.evolve(request.profile.inventory, experts=(experts,))
    with pytest.raises(PlanError, match="mixtures of experts"):
        trl.export(attrs.evolve(request, profile=attrs.evolve(request.profile, inventory=inventory)))
    assert not request.out.exists()


def test_llama_factory_refuses_a_directory_that_it_would_split(plan, request_for, tmp_path):
    request, calls, _ = request_for(plan(), out=tmp_path / "a,b")
    with pytest.raises(FileError, match="at the comma"):
        llama_factory.export(request)
    assert calls == []


@pytest.mark.parametrize("method", ["lora", "adapter"])
def test_the_adapter_directory_says_who_can_load_it(plan, request_for, method):
    request, _, said = request_for(plan(method=method))
    assert peft.export(request) == tuple(request.out / name for name in ADAPTER_FILES)
    (line,) = said
    assert ("pure LoRA" in line) == (method == "lora")
    assert ("it holds adapter" in line and "that needs LayerLens" in line) == (method == "adapter")


def test_a_local_model_is_named_by_its_full_path_and_another_as_typed(plan, request_for, tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    assert request_for(plan(), model="model")[0].base == str(tmp_path / "model")
    assert request_for(plan(), model="somebody/model")[0].base == "somebody/model"


@pytest.mark.parametrize("text", ["plain", 'a "quoted" \\ one', "ünïcode 層 😀", "yes", "# no comment", "a: b", "${x}"])
def test_values_survive_yaml(tmp_path, text):
    keys = {"text": text, "list": [text, 1, True, None], "map": {text: 1, "other": 2}, "number": 0.5}
    path = write_keys(tmp_path / "keys.yaml", keys, "one line\nanother line")
    assert yaml.safe_load(path.read_text(encoding="utf-8")) == keys
    assert path.read_text(encoding="utf-8").startswith("# one line\n# another line\n")
