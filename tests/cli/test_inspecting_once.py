"""Planning inspects a model once: what was found is handed on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from layerlens_core.inspection import inspect as inspection


def test_planning_inspects_a_model_once(
    layerlens: Any,
    model: Callable[[str], str],
    data: Callable[[str], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inspected = []
    heads = inspection._heads  # looked for once in every inspection

    def counted(model: Any) -> Any:
        inspected.append(type(model).__name__)
        return heads(model)

    monkeypatch.setattr(inspection, "_heads", counted)
    layerlens.ok("plan", model("bert"), "--data", data("labelled"), "--budget", "params=r=2", "--out", tmp_path / "run")
    assert inspected == ["BertForSequenceClassification"]
