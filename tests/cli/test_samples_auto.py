"""``--samples auto`` stops where the ranking has settled, says so, and writes it down."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from layerlens_core.values.profile import Profile

Model = Callable[[str], str]
Write = Callable[..., str]


@pytest.fixture
def many(write: Write) -> str:
    words = ("the", "red", "cat", "sees", "a", "small", "dog", "and", "finds", "trees")
    return write("many.jsonl", [{"text": " ".join(words[n % 3 : 5 + n % 5])} for n in range(150)])


def test_it_stops_and_says_so(layerlens: Any, model: Model, many: str, tmp_path: Path) -> None:
    asked = ("plan", model("llama"), "--data", many, "--samples")
    result = layerlens.ok(*asked, "auto", "--out", tmp_path / "run")
    found = Profile.load(tmp_path / "run")
    assert found.samples in (32, 64, 128)
    assert found.settings["samples_at_most"] == 150
    assert found.settings["settled"] == 1
    assert [scores.metric for scores in found.scores] == ["weight_gradient"], "the default there"
    assert min(found.stability.values()) >= 0.95
    said = " ".join(result.stdout.split())
    assert f"--samples auto: {found.samples} of at most 150, where all of these are at least 0.95" in said
    # The same samples asked for by their number: the same scores.
    layerlens.ok(*asked, found.samples, "--metric", "weight_gradient", "--out", tmp_path / "number")
    assert Profile.load(tmp_path / "number").scores[0].values == pytest.approx(found.scores[0].values, rel=1e-5)
    assert Profile.load(tmp_path / "number").data == found.data


def test_it_takes_at_most_as_many_as_it_is_told(layerlens: Any, model: Model, many: str, tmp_path: Path) -> None:
    layerlens.ok("profile", model("llama"), "--data", many, "--samples", "auto:20", "--out", tmp_path / "run")
    found = Profile.load(tmp_path / "run")
    assert (found.samples, found.settings["samples_at_most"]) == (20, 20)


def test_what_is_no_number_is_refused(layerlens: Any, model: Model, many: str, tmp_path: Path) -> None:
    for wrong in ("some", "auto:", "auto:0", "auto:few", "0"):
        asked = ("plan", model("llama"), "--data", many, "--samples", wrong, "--out", tmp_path / "run")
        assert "--samples" in layerlens.refused(*asked)


def test_a_metric_without_a_stability_cannot_say_when_to_stop(
    layerlens: Any, model: Model, many: str, tmp_path: Path
) -> None:
    asked = ("profile", model("llama"), "--data", many, "--samples", "auto", "--metric", "proxy_eval")
    message = layerlens.refused(*asked, "--out", tmp_path / "run")
    assert (
        "samples=auto needs a metric that is a mean over samples, such as weight_gradient; proxy_eval is none"
        in message
    )
