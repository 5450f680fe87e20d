"""Where cores go: into the subspace that their plan names, or nowhere, with one line that says why."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from attrs import evolve

import zoo
from layerlens_builtin.modules.core import Core, CoreColumns, FrozenRows
from layerlens_core.adaptation.apply import apply
from layerlens_core.adaptation.attached import lora_layers
from layerlens_core.adaptation.config import Entry
from layerlens_core.adaptation.cores.subspaces import cores_of, find_subspace
from layerlens_core.errors import FileError, PlanError
from layerlens_core.files.directions import write_directions
from layerlens_core.files.run import SUBSPACE
from layerlens_core.inspection.inspect import inspect
from zoo.probing import logits, perturb, snapshot
from zoo.subspaces import cores_of_size, noise, written

FAMILY = zoo.find("llama")


@pytest.fixture
def model():
    return FAMILY.build()


def test_an_update_is_that_of_the_dense_formula(model, tmp_path):
    name = inspect(model).layers[0].modules[0].name
    plan = cores_of_size(model, tmp_path, {inspect(model).layers[0].name: ("core", 4)})
    wrapped = apply(model, plan, directions=tmp_path)
    perturb(wrapped)
    left, right = noise(FAMILY.build())[name]
    core = cores_of(wrapped)[name].detach().numpy().astype(float)
    expected = 2 * left[:4].T.astype(float) @ core @ right[:4].astype(float)
    found = lora_layers(wrapped)[name].get_delta_weight("default").detach().numpy()
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_core_trains_n_squared_parameters_and_starts_at_zero(model, tmp_path):
    wrapped = apply(model, cores_of_size(model, tmp_path, {"model.layers.1": ("core", 5)}), directions=tmp_path)
    trained = {name: p for name, p in wrapped.named_parameters() if p.requires_grad}
    assert {tuple(p.shape) for p in trained.values()} == {(5, 5)}
    assert not any(p.any() for p in trained.values())
    assert all(name.endswith("lora_B.default.core") for name in trained)


def test_switching_an_adapter_on_and_off_trains_neither_u_nor_v(model, tmp_path):
    wrapped = apply(model, cores_of_size(model, tmp_path, {"model.layers.1": ("core", 5)}), directions=tmp_path)
    before = {name for name, p in wrapped.named_parameters() if p.requires_grad}
    wrapped.set_adapter("default")
    wrapped.base_model.disable_adapter_layers()
    wrapped.base_model.enable_adapter_layers()
    assert {name for name, p in wrapped.named_parameters() if p.requires_grad} == before


def test_a_copy_has_cores_of_its_own(model, tmp_path):
    wrapped = apply(model, cores_of_size(model, tmp_path, {"model.layers.1": ("core", 5)}), directions=tmp_path)
    other = deepcopy(wrapped)
    perturb(other)
    assert not any(core.any() for core in cores_of(wrapped).values())
    assert not torch.equal(logits(other, FAMILY), logits(wrapped, FAMILY))


def test_gradients_are_those_of_the_dense_update():
    entry = Entry(method="core", size=3, shape={"in_features": 7, "out_features": 5})
    a, b = Core.factors(entry, torch.zeros((), dtype=torch.float64))
    generator = torch.Generator().manual_seed(0)
    left, right = (
        torch.linalg.qr(torch.randn(width, 3, generator=generator, dtype=torch.float64))[0].mT for width in (5, 7)
    )
    Core.place(a, b, left, right)
    core = torch.randn(3, 3, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        Core.trained(b).copy_(core)
    x = torch.randn(4, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    g = torch.randn(4, 5, generator=generator, dtype=torch.float64)
    (b(a(x)) * g).sum().backward()
    torch.testing.assert_close(Core.trained(b).grad, left @ g.mT @ x.detach() @ right.mT)
    torch.testing.assert_close(x.grad, g @ left.mT @ core @ right)


def test_what_lies_in_another_subspace_is_not_loaded():
    entry = Entry(method="core", size=2, shape={"in_features": 6, "out_features": 6})
    (a, b), eye = Core.factors(entry, torch.zeros(())), torch.eye(6)
    Core.place(a, b, eye[:2], eye[:2])
    assert isinstance(a, FrozenRows)
    assert isinstance(b, CoreColumns)
    b.load_state_dict({"weight": eye[:, :2] * 3})
    torch.testing.assert_close(Core.trained(b).detach(), 3 * torch.eye(2))
    with pytest.raises(RuntimeError, match="does not lie in the subspace"):
        b.load_state_dict({"weight": eye[:, 2:4]})
    with pytest.raises(RuntimeError, match="size mismatch"):
        b.load_state_dict({"weight": eye[:, :3]})


# --- what is refused, before the model is touched


def refused(model, plan, error, message, directions):
    before = snapshot(model)
    with pytest.raises(error, match=message) as refusal:
        apply(model, plan, directions=directions)
    assert "\n" not in str(refusal.value)
    assert snapshot(model) == before


def test_a_plan_without_subspaces_says_what_to_do(model, tmp_path):
    plan = cores_of_size(model, tmp_path, {"model.layers.1": ("core", 5)})
    refused(model, evolve(plan, subspace=None), PlanError, "profile with --warm-up", tmp_path)
    refused(model, plan, PlanError, "give directions=", None)


def test_missing_damaged_and_other_files_are_refused(model, tmp_path):
    plan = cores_of_size(model, tmp_path, {"model.layers.1": ("core", 5)})
    refused(model, plan, FileError, "does not exist", tmp_path / "elsewhere")
    other = tmp_path / "other"
    written(model, other, noise(model, seed=1))
    refused(model, plan, FileError, "damaged, or not the file", other)
    content = (tmp_path / SUBSPACE).read_bytes()
    (tmp_path / SUBSPACE).write_bytes(content[:-8] + b"\0" * 8)
    refused(model, plan, FileError, "damaged, or not the file", tmp_path)


def test_a_core_larger_than_its_subspace_is_refused(model, tmp_path):
    plan = cores_of_size(model, tmp_path, {"model.layers.1": ("core", 5)})
    few = evolve(plan, subspace=written(model, tmp_path, noise(model, most=4)))
    refused(model, few, PlanError, "has rank 5, but its subspace has 4 directions", tmp_path)


def test_a_module_without_a_subspace_is_refused(model, tmp_path):
    plan = cores_of_size(model, tmp_path, {"model.layers.1": ("core", 5)})
    found = {name: pair for name, pair in noise(model).items() if not name.endswith("layers.1.mlp.up_proj")}
    refused(model, evolve(plan, subspace=written(model, tmp_path, found)), PlanError, "no subspace for it", tmp_path)


def test_a_digest_finds_its_file(tmp_path):
    vectors = {source: noise(FAMILY.build(), seed=at) for at, source in enumerate(("gradient", "warm-up"))}
    digests = {
        source: write_directions(tmp_path, each, fingerprint="f", seed=0, samples=2, source=source)
        for source, each in vectors.items()
    }
    name = "model.layers.0.self_attn.q_proj"
    for source, digest in digests.items():
        _, found = find_subspace([tmp_path], fingerprint="f", digest=digest)
        assert (found[name].left == vectors[source][name].left).all()
    with pytest.raises(FileError, match="another model"):
        find_subspace([tmp_path], fingerprint="g", digest=digests["warm-up"])
    (tmp_path / SUBSPACE).unlink()
    with pytest.raises(FileError, match="not the file that its profile was written with"):
        find_subspace([tmp_path], fingerprint="f", digest=digests["warm-up"])
    assert find_subspace([tmp_path], fingerprint="f", digest=digests["gradient"])
