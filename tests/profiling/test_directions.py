"""The side file of directions is the profile's own, and the same every time."""

import numpy as np
import torch

import layerlens_core as ll
import zoo
from layerlens_core.files.directions import read_directions
from layerlens_core.files.run import DIRECTIONS
from layerlens_core.profiling.profile import profile
from zoo.profiled import build, reference, samples


def test_the_side_file_comes_back_and_is_the_same_every_time(tmp_path):
    family = zoo.find("llama")
    model, data = build(family, torch.float32), samples(family)
    run = profile(model, data, directions=tmp_path / "run")
    path = tmp_path / "run" / DIRECTIONS
    first = path.read_bytes()
    vectors = read_directions(path, fingerprint=run.inventory.fingerprint, digest=run.directions)
    assert sorted(vectors) == sorted(module.name for module in run.inventory.modules)
    for module in run.inventory.modules:
        most = min(64, module.in_features, module.out_features)
        assert vectors[module.name].left.shape == (most, module.out_features)
        assert vectors[module.name].right.shape == (most, module.in_features)
    assert profile(model, data, directions=tmp_path / "run") == run
    assert path.read_bytes() == first
    run.save(tmp_path / "run")
    assert ll.Profile.load(tmp_path / "run") == run
    assert [p.name for p in (tmp_path / "run").iterdir() if p.name.startswith(".")] == []
    assert profile(model, data).directions is None


def test_left_and_right_vectors_decompose_the_mean_gradient(tmp_path):
    """Against the gradients of every sample, of which the mean is decomposed in full."""
    family = zoo.find("llama")
    model, data = build(family, torch.float32), samples(family)
    run = profile(model, data, directions=tmp_path)
    vectors = read_directions(tmp_path, fingerprint=run.inventory.fingerprint)
    truth = reference(model, list(vectors), data)
    for name, (left, right) in vectors.items():
        mean = truth[name].mean(dim=0).double().numpy()
        values = np.linalg.svd(mean, compute_uv=False)[: len(left)]
        between = left.astype(float) @ mean @ right.astype(float).T
        assert np.abs(between - np.diag(values)).max() <= 1e-4 * values[0], name
