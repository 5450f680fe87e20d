"""The picture: what is drawn is what the verdict holds, and nothing is asked of anybody else."""

import re
import sys

import attrs
import pytest

from comparison.runs import LABELS, runs
from layerlens_core.comparison.judging.picture import picture, write_picture
from layerlens_core.comparison.judging.verdict import verdict
from layerlens_core.errors import ComparisonError

EFFECTS = {("uniform", 1): 0.0, ("uniform", 4): 0.0, ("plan", 1): -0.05, ("plan", 4): 0.0, ("broken", 4): None}
VERDICT = verdict(runs(EFFECTS), LABELS)


@pytest.fixture
def drawn():
    """Whether the extra is there; it is in what `make env` installs."""
    for name in ("altair", "vl_convert"):
        pytest.importorskip(name, reason="the extra `report` is not installed")


@pytest.mark.parametrize("missing", ["altair", "vl_convert"])
def test_without_the_extra_one_line_names_it(monkeypatch, missing, tmp_path):
    pytest.importorskip("altair") if missing == "vl_convert" else None
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ComparisonError, match=f"pictures need {missing}: pip install altair vl-convert-python"):
        write_picture(VERDICT, tmp_path / "picture.svg")
    assert list(tmp_path.iterdir()) == []


def test_only_svg_and_png_are_written(tmp_path):
    with pytest.raises(ComparisonError, match=r"not as picture\.pdf"):
        write_picture(VERDICT, tmp_path / "picture.pdf")


@pytest.mark.usefixtures("drawn")
def test_what_is_drawn_is_what_the_verdict_holds():
    spec = picture(VERDICT, axes=("parameters", "memory")).to_dict()
    assert spec["datasets" if "datasets" in spec else "vconcat"]
    values = [each for row in spec["vconcat"] for panel in row["hconcat"] for each in _values(panel)]
    losses = {(each["arm"], each["budget"]): each["loss"] for each in values if "loss" in each}
    assert losses == {(each.arm, each.budget): each.loss for each in VERDICT.judged if each.loss is not None}
    ratios = {(each["arm"], each["budget"]): (each["low"], each["high"]) for each in values if "ratio" in each}
    assert ratios == {
        (each.arm, each.budget): (100 * each.ratio.low, 100 * each.ratio.high) for each in VERDICT.judged if each.ratio
    }
    assert len(spec["vconcat"]) == 1, "nothing is known of memory, so that it has no panel"


@pytest.mark.usefixtures("drawn")
def test_an_arm_without_parameters_is_judged_and_not_drawn():
    results = runs(EFFECTS)
    trained = next(each.job.arm for each in results if each.job.arm.key == "plan r=1")
    empty = attrs.evolve(trained, name="none", sizes={}, parameters=0)
    nothing = [
        attrs.evolve(each, job=attrs.evolve(each.job, arm=empty))
        for each in results
        if each.job.arm.key == "plan r=1"
    ]  # fmt: skip
    found = verdict([*results, *nothing], LABELS)
    (none,) = (each for each in found.judged if each.arm == "none")
    assert none.loss is not None
    assert none.factor is None
    assert picture(found).to_dict() == picture(VERDICT).to_dict()


def _values(panel):
    data = [panel.get("data"), *(layer.get("data") for layer in panel.get("layer", ()))]
    return [value for each in data if each for value in each["values"]]


@pytest.mark.usefixtures("drawn")
def test_a_file_stands_alone(tmp_path):
    write_picture(VERDICT, tmp_path / "picture.svg", axes=("parameters", "step"))
    text = (tmp_path / "picture.svg").read_text(encoding="utf-8")
    assert text.startswith("<svg")
    for word in ("uniform", "plan", "trainable parameters", "r=4"):
        assert word in text
    assert set(re.findall(r"https?://[^\s\"'<]+", text)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    assert "<script" not in text
    write_picture(VERDICT, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("drawn")
def test_nothing_to_draw_is_refused():
    nothing = attrs.evolve(VERDICT, judged=tuple(each for each in VERDICT.judged if each.loss is None))
    with pytest.raises(ComparisonError, match="nothing to draw"):
        picture(nothing)
