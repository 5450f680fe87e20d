"""Samples are read as the ranking takes them: no more than the first where these settle it."""

import pytest
import torch

from layerlens_core.profiling import reading
from layerlens_core.profiling.engine.stopping import MOST
from layerlens_core.profiling.profile import profile
from zoo.compared import model_and_samples


@pytest.fixture
def few(monkeypatch):
    """Sixty-four samples are read ahead."""
    monkeypatch.setattr(reading, "AHEAD", 64)


def counted(samples):
    """A stream of samples, and how many were taken from it."""
    taken = []

    def stream():
        for sample in samples:
            taken.append(sample)
            yield sample

    return stream(), taken


def test_where_the_first_samples_settle_it_no_more_are_read(few):
    model, samples, _ = model_and_samples("llama", count=300)
    stream, taken = counted(samples)
    found = profile(model, stream, samples="auto")
    assert found.settings["settled"] == 1
    assert found.samples <= 64
    assert len(taken) == 65  # one more, to know that there are more
    assert found.settings["samples_at_most"] == MOST
    plain = profile(model, samples[:65], samples="auto")
    assert found.scores == plain.scores
    assert found.data == plain.data


def test_where_they_do_not_all_are_read_and_measured(few, monkeypatch):
    from layerlens_core.profiling import profile as profiling

    monkeypatch.setattr(profiling, "settled", lambda stability, metrics: False)
    model, samples, _ = model_and_samples("llama", count=150)
    stream, taken = counted(samples)
    found = profile(model, stream, samples="auto")
    assert len(taken) == 150
    assert found.samples == 150
    assert found.settings["samples_at_most"] == 150
    ((expected,), (scores,)) = profile(model, samples, metrics=["weight_gradient"]).scores, found.scores
    assert scores.values == pytest.approx(dict(expected.values), rel=1e-6)


def test_a_stream_that_ends_early_is_measured_once(few, monkeypatch):
    model, samples, _ = model_and_samples("llama", count=40)
    passes = []
    real = torch.autograd.backward
    monkeypatch.setattr(torch.autograd, "backward", lambda *args, **kwargs: passes.append(1) or real(*args, **kwargs))
    profile(model, iter(samples), samples="auto")
    once = len(passes)
    passes.clear()
    profile(model, samples, metrics=["weight_gradient"])
    assert once <= len(passes)
