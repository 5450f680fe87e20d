"""``--compile`` gives the scores of a profile without it, and is written down."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from layerlens_core.profiling.hooks import compiled as compiled_layers
from layerlens_core.values.profile import Profile


@pytest.mark.slow
def test_compiled_layers_give_the_same_scores(
    layerlens: Any, model: Callable[[str], str], write: Callable[..., str], tmp_path: Path, monkeypatch: Any
) -> None:
    data = write("texts.jsonl", [{"text": "the red cat sees a small dog"}, {"text": "a dog finds trees"}] * 3)
    asked = ("profile", model("llama"), "--data", data, "--metric", "fisher", "--metric", "weight_gradient", "--out")
    # Code that the compiler generates is run by tests/profiling/hooks/test_compiled.py.
    monkeypatch.setattr(compiled_layers, "OPTIONS", {"backend": "aot_eager_decomp_partition"})
    layerlens.ok(*asked, tmp_path / "plain")
    layerlens.ok(*asked, tmp_path / "compiled", "--compile")
    plain, compiled = (Profile.load(tmp_path / name) for name in ("plain", "compiled"))
    assert compiled.settings["compile"] == "layers"
    assert "compile" not in plain.settings
    for one, other in zip(plain.scores, compiled.scores, strict=True):
        assert other.values == pytest.approx(one.values, rel=1e-4)
