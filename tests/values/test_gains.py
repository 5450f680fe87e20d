"""Measured curves on disk: what was written is read, and what is damaged is refused by name."""

import attrs
import pytest

from layerlens_core.errors import FileError
from layerlens_core.values.gains import GainCurve, Gains

GAINS = Gains(
    curves={
        "lora": GainCurve(ceiling=1.0, half=6.5, spread=0.02, source="measured"),
        "adapter": GainCurve(ceiling=0.9, half=3.0, spread=None, source="given"),
    },
    setting="0123456789abcdef",
    profile="0" * 64,
)


def test_a_curve_is_half_its_ceiling_at_its_half():
    curve = GainCurve(ceiling=0.8, half=4.0, spread=0.0, source="")
    assert (curve.at(0), curve.at(4.0)) == (0.0, 0.4)
    assert curve.at(1e9) == pytest.approx(0.8)


def test_what_was_written_is_read(tmp_path):
    assert GAINS.save(tmp_path) == tmp_path / "gains.json"
    assert Gains.load(tmp_path) == GAINS


def test_a_run_without_any_says_how_they_are_measured(tmp_path):
    with pytest.raises(FileError, match=rf"not measured in this run; measure it with: layerlens compare {tmp_path}"):
        Gains.load(tmp_path)


@pytest.mark.parametrize("wrong", [{"ceiling": -1.0}, {"half": 0.0}, {"spread": -0.1}])
def test_a_curve_that_is_none_is_refused(tmp_path, wrong):
    attrs.evolve(GAINS, curves={"lora": attrs.evolve(GAINS.curves["lora"], **wrong)}).save(tmp_path)
    with pytest.raises(FileError, match="is damaged: the curve of lora has"):
        Gains.load(tmp_path)


def test_what_they_lack_of_some_methods():
    assert GAINS.lacking(["none", "prefix", "lora"]) == ["prefix"]
    assert GAINS.lacking(["none", "adapter"]) == []
