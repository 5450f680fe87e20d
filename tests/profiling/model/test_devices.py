"""How much memory is free."""

import torch

from layerlens_core.profiling.model import devices
from layerlens_core.profiling.model.devices import free_memory

CPU = torch.device("cpu")


def test_a_container_bounds_what_is_free(tmp_path, monkeypatch):
    most, used = tmp_path / "memory.max", tmp_path / "memory.current"
    monkeypatch.setattr(devices, "_CONTAINER", (most, used))
    outside = free_memory(CPU)
    assert outside > 1000
    most.write_text("max\n")
    used.write_text("7000\n")
    assert free_memory(CPU) > 1000, "it has no limit"
    most.write_text("8000\n")
    assert free_memory(CPU) == 1000
    used.write_text("9000\n")
    assert free_memory(CPU) == 0


def test_a_system_that_does_not_tell_is_taken_to_have_some(monkeypatch):
    def silent(name):
        raise ValueError(name)

    monkeypatch.setattr("os.sysconf", silent)
    assert free_memory(CPU) == devices._FREE
