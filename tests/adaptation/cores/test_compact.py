"""Adapters of cores in a few KB, over a subspace that many share; and the ordinary LoRA that each of them is."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from peft import PeftModel

import layerlens_core as ll
import zoo
from layerlens_core.adaptation.cores.subspaces import cores_of
from layerlens_core.adaptation.saved.compact import CORES
from layerlens_core.errors import FileError, ModelError, PlanError
from layerlens_core.files import tensors
from layerlens_core.files.run import SUBSPACE
from layerlens_core.inspection.inspect import inspect
from zoo.plans import plan_with
from zoo.probing import logits, perturb, snapshot
from zoo.subspaces import cores_of_size, noise, written

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


def trained(family, run, seed=5):
    """A base model, the same with cores that have moved, and what these compute."""
    base = family.build()
    layers = inspect(base).layers
    plan = cores_of_size(base, run, {layers[0].name: ("core", 4), layers[-1].name: ("core", 3)})
    wrapped = ll.apply(deepcopy(base), plan, directions=run).eval()
    perturb(wrapped, seed)
    return base, wrapped, logits(wrapped, family)


@pytest.mark.parametrize("name", ["llama", "bert-classifier", "gpt2", "t5", "vit"])
def test_a_compact_adapter_computes_the_same_and_so_does_its_lora(name, tmp_path):
    family = zoo.find(name)
    base, wrapped, expected = trained(family, tmp_path / "run")
    path = ll.save_compact(wrapped, tmp_path / "one", subspace=tmp_path / "run")
    loaded = ll.load(deepcopy(base), tmp_path / "one")
    assert torch.equal(logits(loaded, family), expected)
    assert not any(p.requires_grad for p in loaded.parameters())
    assert path.stat().st_size < 4 * sum(p.numel() for p in wrapped.parameters() if p.requires_grad) + 8_000
    for one_rank in (True, False):
        folder = ll.as_lora(tmp_path / "one", tmp_path / f"lora-{one_rank}", one_rank=one_rank)
        plain = PeftModel.from_pretrained(deepcopy(base), folder).eval()
        torch.testing.assert_close(logits(plain, family), expected, rtol=1e-4, atol=1e-5)
        ours = ll.load(deepcopy(base), folder)
        torch.testing.assert_close(logits(ours, family), expected, rtol=1e-4, atol=1e-5)


def test_training_goes_on_with_the_cores_alone(tmp_path):
    family = zoo.find("llama")
    base, wrapped, _ = trained(family, tmp_path / "run")
    ll.save_compact(wrapped, tmp_path / "one", subspace=tmp_path / "run")
    loaded = ll.load(base, tmp_path / "one", trainable=True)
    loaded(**family.inputs(labels=True)).loss.backward()
    assert {n for n, p in loaded.named_parameters() if p.requires_grad} == {
        n for n, p in wrapped.named_parameters() if p.requires_grad
    }
    assert all(core.grad.any() for core in cores_of(loaded).values())


def test_adapters_share_one_file_in_the_directory_above(tmp_path):
    family = zoo.find("llama")
    base, wrapped, _ = trained(family, tmp_path / "run")
    store = tmp_path / "store"
    store.mkdir()
    (store / SUBSPACE).write_bytes((tmp_path / "run" / SUBSPACE).read_bytes())
    expected = []
    for seed in range(3):
        perturb(wrapped, seed)
        expected.append(logits(wrapped, family))
        ll.save_compact(wrapped, store / str(seed), subspace=tmp_path / "run")
    assert sorted(path.name for path in store.rglob("*.safetensors")) == [CORES] * 3 + [SUBSPACE]
    for seed in range(3):
        assert torch.equal(logits(ll.load(deepcopy(base), store / str(seed)), family), expected[seed])


def test_without_the_run_an_adapter_brings_its_own_subspaces(tmp_path):
    family = zoo.find("llama")
    base, wrapped, expected = trained(family, tmp_path / "run")
    ll.save_compact(wrapped, tmp_path / "one")
    assert torch.equal(logits(ll.load(base, tmp_path / "one"), family), expected)


def test_other_subspaces_than_the_adapters_are_refused(tmp_path):
    family = zoo.find("llama")
    base, wrapped, _ = trained(family, tmp_path / "run")
    written(base, tmp_path / "other", noise(base, seed=1))
    with pytest.raises(FileError, match="damaged, or not the file"):
        ll.save_compact(wrapped, tmp_path / "one", subspace=tmp_path / "other")
    ll.save_compact(wrapped, tmp_path / "one", subspace=tmp_path / "run")
    (tmp_path / "one" / SUBSPACE).write_bytes((tmp_path / "other" / SUBSPACE).read_bytes())
    unchanged(base, tmp_path / "one", FileError, "damaged, or not the file")
    (tmp_path / "one" / SUBSPACE).unlink()
    unchanged(base, tmp_path / "one", FileError, "does not exist, but it holds the subspaces")
    assert ll.load(base, tmp_path / "one", subspace=tmp_path / "run")


def test_damaged_files_and_other_models_are_refused(tmp_path):
    family = zoo.find("llama")
    base, wrapped, _ = trained(family, tmp_path / "run")
    path = ll.save_compact(wrapped, tmp_path / "one", subspace=tmp_path / "run")
    unchanged(zoo.build("gpt2"), tmp_path / "one", ModelError, "cores of another model")
    content = path.read_bytes()
    header, arrays = tensors.header_of(content), tensors.arrays_of(content)
    name = next(iter(arrays))
    for damage, message in [
        ({**header, "version": 9}, "of version 9"),
        ({**header, "scale": 0}, "its scale is 0"),
        ({**header, "heads": [1]}, "its heads is"),
        ({**header, "subspace": None}, "its subspace is None"),
    ]:
        tensors.write(path, arrays, damage)
        unchanged(base, tmp_path / "one", FileError, message)
    for array, message in [
        (np.full((4, 4), np.nan, np.float32), "finite"),
        (np.zeros((4, 3), np.float32), "no square matrix"),
        (np.zeros((40, 40), np.float32), "has rank 40, but its subspace has 12 directions"),
    ]:
        tensors.write(path, {**arrays, name: array}, header)
        unchanged(base, tmp_path / "one", FileError, message)
    path.write_bytes(content[:100])
    unchanged(base, tmp_path / "one", FileError, "is damaged")


def unchanged(model, source, error, message):
    before = snapshot(model)
    with pytest.raises(error, match=message) as refusal:
        ll.load(model, source)
    assert "\n" not in str(refusal.value)
    assert snapshot(model) == before


def test_an_adapter_with_more_than_cores_is_saved_otherwise(tmp_path):
    model = zoo.build("llama")
    plan = cores_of_size(model, tmp_path, {"model.layers.0": ("core", 3), "model.layers.1": ("adapter", 4)})
    wrapped = ll.apply(model, plan, directions=tmp_path)
    with pytest.raises(PlanError, match="this one has adapter; use save_pretrained"):
        ll.save_compact(wrapped, tmp_path / "one")
    lora = ll.apply(zoo.build("llama"), plan_with(model := zoo.build("llama"), {"model.layers.0": ("lora", 3)}))
    with pytest.raises(PlanError, match="this one has lora"):
        ll.save_compact(lora, tmp_path / "one")


def test_cores_beside_other_methods_are_saved_whole(tmp_path):
    family = zoo.find("llama")
    base = family.build()
    chosen = {"model.layers.0": ("core", 3), "model.layers.1": ("adapter", 4), "model.layers.2": ("lora", 2)}
    assert chosen.keys() <= {layer.name for layer in inspect(base).layers}
    plan = cores_of_size(base, tmp_path, chosen)
    wrapped = ll.apply(deepcopy(base), plan, directions=tmp_path).eval()
    perturb(wrapped)
    wrapped.save_pretrained(tmp_path / "mixed")
    loaded = ll.load(deepcopy(base), tmp_path / "mixed")
    torch.testing.assert_close(logits(loaded, family), logits(wrapped, family), rtol=1e-4, atol=1e-5)
