"""The side file of directions comes back as it was, and is refused where it is damaged."""

import json

import numpy as np
import pytest
import safetensors.torch
import torch

import layerlens_core as ll
import zoo
from layerlens_core.errors import FileError
from layerlens_core.files.directions import read_directions, write_directions
from layerlens_core.files.run import DIRECTIONS
from layerlens_core.profiling.profile import profile
from zoo.profiled import build, samples


def test_the_side_file_comes_back_and_is_the_same_every_time(tmp_path):
    family = zoo.find("llama")
    model, data = build(family, torch.float32), samples(family)
    run = profile(model, data, directions=tmp_path / "run")
    path = tmp_path / "run" / DIRECTIONS
    first = path.read_bytes()
    vectors = read_directions(path, fingerprint=run.inventory.fingerprint, digest=run.directions)
    assert sorted(vectors) == sorted(module.name for module in run.inventory.modules)
    for module in run.inventory.modules:
        assert vectors[module.name].shape == (min(64, module.in_features, module.out_features), module.in_features)
    assert profile(model, data, directions=tmp_path / "run") == run
    assert path.read_bytes() == first
    run.save(tmp_path / "run")
    assert ll.Profile.load(tmp_path / "run") == run
    assert [p.name for p in (tmp_path / "run").iterdir() if p.name.startswith(".")] == []
    assert profile(model, data).directions is None


def test_a_side_file_that_is_not_the_one_is_refused_in_one_line(tmp_path):
    vectors = {"a.b": torch.eye(3)}
    digest = write_directions(tmp_path, {"a.b": np.eye(3)}, fingerprint="f", seed=0, samples=2)
    path = tmp_path / DIRECTIONS
    content = path.read_bytes()
    assert (read_directions(tmp_path, fingerprint="f", digest=digest)["a.b"] == np.eye(3)).all()

    def refused(match, *, data=content, fingerprint="f", expected=None):
        path.write_bytes(data)
        with pytest.raises(FileError, match=match) as caught:
            read_directions(path, fingerprint=fingerprint, digest=expected)
        assert "\n" not in str(caught.value)

    refused("another model", fingerprint="g")
    refused("not the file that its profile", data=content[:-1] + b"x", expected=digest)
    for length in (0, 5, 40, len(content) - 1):
        refused("damaged", data=content[:length])
    refused("damaged", data=b"\xff" * 200)
    refused("damaged", data=safetensors.torch.save(vectors))
    header = {"schema": "layerlens/directions", "version": 2}
    refused("is of version 2", data=safetensors.torch.save(vectors, metadata={"layerlens": json.dumps(header)}))
    refused("is not a layerlens/directions", data=safetensors.torch.save(vectors, metadata={"layerlens": "{}"}))
    path.unlink()
    with pytest.raises(FileError, match="does not exist"):
        read_directions(path, fingerprint="f", digest=digest)
