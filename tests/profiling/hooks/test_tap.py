"""Outputs that are listened to."""

import pytest

import zoo
from layerlens_core.profiling.profile import profile
from zoo.profiled import build, reference, samples


def test_an_operation_in_place_on_a_tapped_output_is_allowed():
    family = zoo.find("llama")
    model, data = build(family), samples(family)
    model.model.layers[0].mlp.down_proj.register_forward_hook(lambda _m, _a, output: output.mul_(1.5))
    name = "model.layers.0.mlp.up_proj"
    measured = profile(model, data, metrics=("fisher",))
    truth = reference(model, [name], data)[name]
    assert measured.scores[0].values[name] == pytest.approx(float(truth.square().sum()) / len(data), rel=1e-10)
