"""A stranger's adapter: what no plan writes is refused by the name of its field, before anything is built."""

import json
import random
from copy import deepcopy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

import zoo
from layerlens_core.adaptation.apply import apply
from layerlens_core.adaptation.load import load
from layerlens_core.errors import FileError, LayerLensError
from layerlens_core.inspection.inspect import inspect
from zoo.plans import mixed_ranks, plan_of, plan_with
from zoo.probing import logits, perturb, snapshot

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

FAMILY = zoo.find("llama")
#: What a field may be changed to.
STRANGE = [
    None, True, False, 0, -1, 1, 2, 10**8, 10**30, 10**400, 1.5, -1e308, 1e308, float("nan"), float("inf"), "", "a",
    "(a+)+$", ".*", "all-linear", [],
    [0], [[0, 4]], ["x"], {}, {"a": 1}, {"q_proj": 1e8}, {"(a+)+$": 3}, "\x00", "\ud800",
    {"a": {"b": [1]}}, [None], "x" * 100_000, "LORA", "LAYERLENS", "\x1b[31m",
]  # fmt: skip


def saved(kind, folder):
    """An adapter, and what its model computes."""
    model = FAMILY.build()
    names = [layer.name for layer in inspect(model).layers]
    mixed = {names[0]: ("lora", 3), names[1]: ("adapter", 4), names[2]: ("prefix", 5)}
    plan = plan_with(model, mixed) if kind == "mixed" else plan_of(model, mixed_ranks(model))
    wrapped = apply(model, plan, one_rank=kind == "one rank").eval()
    perturb(wrapped)
    wrapped.save_pretrained(folder)
    return logits(wrapped, FAMILY)


KINDS = ("one rank", "own ranks", "mixed")


def write(folder, config):
    (folder / "adapter_config.json").write_text(json.dumps(config))


@pytest.fixture(params=KINDS)
def adapter(request, tmp_path):
    """Where an adapter lies, what its configuration says, and what its model computes."""
    expected = saved(request.param, tmp_path)
    return tmp_path, json.loads((tmp_path / "adapter_config.json").read_text()), expected


def places(value, path=()):
    """The paths of everything inside a JSON value."""
    if path:
        yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*path, key))


def changed(config, generator):
    """A configuration with one place of it lost or strange."""
    config = deepcopy(config)
    top = [path for path in places(config) if len(path) == 1]
    *outer, last = generator.choice(top if generator.random() < 0.6 else list(places(config)))
    inner = config
    for key in outer:
        inner = inner[key]
    if generator.random() < 0.15:
        del inner[last]
    else:
        inner[last] = generator.choice(STRANGE)
    return config


def test_a_changed_configuration_is_refused_or_means_what_it_says(adapter):
    folder, config, expected = adapter
    model = FAMILY.build()
    before = snapshot(model)
    accepted = 0
    for seed in range(150):
        other = changed(config, random.Random(seed))
        write(folder, other)
        try:
            loaded = load(model, folder).eval()
        except LayerLensError as error:
            assert "\n" not in str(error)  # noqa: PT017
            continue
        accepted += 1
        if (other.get("lora_alpha"), other.get("scale")) == (config.get("lora_alpha"), config.get("scale")):
            assert torch.equal(logits(loaded, FAMILY), expected)
        model = FAMILY.build()
        before = snapshot(model)
    assert 0 < accepted < 75
    assert snapshot(model) == before


def test_changed_bytes_of_the_tensors_are_refused_or_read(adapter):
    folder, _, _ = adapter
    path = folder / "adapter_model.safetensors"
    content = path.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    model = FAMILY.build()
    for seed in range(100):
        generator = random.Random(seed)
        damaged = bytearray(content)
        damaged[generator.randrange(header)] = generator.randrange(256)
        path.write_bytes(damaged if seed % 5 else damaged[: generator.randrange(len(damaged))])
        try:
            load(model, folder)
        except LayerLensError as error:
            assert "\n" not in str(error)  # noqa: PT017
        else:
            model = FAMILY.build()


#: Fields of PEFT's that change what is built, or the base model, each with a value that PEFT takes.
FOREIGN = {
    "layer_replication": [[0, 3], [1, 3]],
    "use_rslora": True,
    "use_dora": True,
    "bias": "all",
    "lora_bias": True,
    "layers_to_transform": 0,
    "exclude_modules": ["q_proj"],
    "init_lora_weights": "pissa",
    "megatron_config": {"a": 1},
    "alora_invocation_tokens": [1],
    "a_field_of_tomorrow": 3,
}


#: What PEFT itself stumbles over, or what a message may not repeat as it stands.
MISTYPED = [
    ("arrow_config", False), ("kasa_config", False), ("bias", None), ("bias", False),
    *((field, value) for field in ("rank_pattern", "alpha_pattern") for value in (None, False, 0, "", [])),
    *(("target_parameters", value) for value in (False, 0, "", {})),
    ("lora_alpha", 5e-324), ("peft_type", "LO\nRA"), ("peft_type", "\x1b[2J"), ("peft_type", "a" * 5000),
]  # fmt: skip


@pytest.mark.parametrize("kind", ["one rank", "own ranks"])
def test_what_peft_stumbles_over_is_refused_in_a_line(kind, tmp_path):
    saved(kind, tmp_path)
    config, model = json.loads((tmp_path / "adapter_config.json").read_text()), FAMILY.build()
    for field, value in MISTYPED:
        write(tmp_path, {**config, field: value})
        with pytest.raises(FileError) as caught:
            load(model, tmp_path)
        assert str(caught.value).isprintable(), field
        assert len(str(caught.value)) < 300 + len(str(tmp_path)), field


def test_names_and_versions_are_told_in_a_line(tmp_path):
    saved("mixed", tmp_path)
    config, model = json.loads((tmp_path / "adapter_config.json").read_text()), FAMILY.build()
    strange = {"version": "\n" * 50}, {"version": True}, {"version": 1.0}, {"entries": {"a\nb": {}}}
    for change in strange:
        write(tmp_path, {**config, **change})
        with pytest.raises(FileError, match=r"of version|is damaged: the entry of a\\nb") as caught:
            load(model, tmp_path)
        assert str(caught.value).isprintable()


@pytest.mark.parametrize("field", FOREIGN)
def test_what_no_plan_sets_is_refused_by_name(adapter, field):
    folder, config, _ = adapter
    write(folder, {**config, field: FOREIGN[field]})
    with pytest.raises(FileError, match=rf"adapter_config\.json has .* for {field}, which"):
        load(FAMILY.build(), folder)


def refused(folder, config, message):
    write(folder, config)
    model = FAMILY.build()
    before = snapshot(model)
    with pytest.raises(LayerLensError, match=message):
        load(model, folder)
    assert snapshot(model) == before


def test_sizes_are_compared_with_the_tensors_before_anything_is_allocated(tmp_path):
    for kind in KINDS:
        saved(kind, tmp_path / kind)
        config = json.loads((tmp_path / kind / "adapter_config.json").read_text())
        if kind != "mixed":
            refused(tmp_path / kind, {**config, "r": 10**8, "lora_alpha": 2 * 10**8}, "the rank 100000000, but its")
            continue
        for name, entry in config["entries"].items():
            entries = {**config["entries"], name: {**entry, "size": 10**8}}
            refused(tmp_path / kind, {**config, "entries": entries}, "other ranks or widths|lacks tensors of")


def test_patterns_of_strangers_are_not_matched(tmp_path):
    saved("own ranks", tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    endless = r"^(([a-z\d._])+)+!$"
    refused(tmp_path, {**config, "target_modules": endless}, "for target_modules, a pattern that no plan writes")
    refused(tmp_path, {**config, "rank_pattern": {endless: 2}}, "for rank_pattern, which has to map a plan's patterns")
    refused(tmp_path, {**config, "alpha_pattern": {endless: 2}}, "for alpha_pattern, ")


@pytest.mark.parametrize("targets", [["q_proj", "v_proj"], ["self_attn.o_proj"], "all-linear"])
def test_lora_that_peft_made_is_loaded(tmp_path, targets):
    """At one rank, on modules that are named by the ends of their names."""
    wrapped = get_peft_model(FAMILY.build(), LoraConfig(r=4, lora_alpha=8, target_modules=targets)).eval()
    perturb(wrapped)
    wrapped.save_pretrained(tmp_path)
    loaded = load(FAMILY.build(), tmp_path).eval()
    assert torch.equal(logits(loaded, FAMILY), logits(wrapped, FAMILY))
    # And again as it was saved by us.
    loaded.save_pretrained(tmp_path / "again")
    assert torch.equal(logits(load(FAMILY.build(), tmp_path / "again"), FAMILY), logits(wrapped, FAMILY))


def test_values_that_are_not_finite_or_not_floating_point_are_refused(tmp_path):
    saved("one rank", tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    tensors = load_file(path)
    name = next(iter(tensors))
    for value, message in (
        (torch.full_like(tensors[name], torch.nan), "which is not finite"),
        (tensors[name].to(torch.int32), "in torch.int32, which no adapter is trained in"),
        (tensors[name][0], "A and B at .* which give no product"),
    ):
        save_file({**tensors, name: value.contiguous()}, path)
        with pytest.raises(FileError, match=message):
            load(FAMILY.build(), tmp_path)
