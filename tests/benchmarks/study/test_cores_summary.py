"""The summary of cores, on runs whose losses follow from a formula."""

import json
import math
from fractions import Fraction

import pytest
from benchmarks.study.cores_summary import baseline, judged, needed, read, table  # type: ignore[import-not-found]


def row(arm, budget, loss, *, rate=1e-2, seed=0, parameters=1000, stage="seed 0"):
    return {
        "stage": stage, "arm": arm, "budget": f"r={budget}", "rate": rate, "seed": seed, "parameters": parameters,
        "loss": loss, "accuracy": None, "job": f"{arm} {budget} {rate} {seed} {stage}",
    }  # fmt: skip


def curve(at, *, worse=0.0):
    """A loss that falls by 0.1 when parameters double."""
    return 3 + worse - 0.1 * math.log2(at)


@pytest.mark.parametrize("parameters", [500, 1000, 3000, 32_000, 100_000])
def test_what_lora_needs_is_read_off_its_curve(parameters):
    points = [(at, curve(at)) for at in (1000, 2000, 16_000, 64_000)]
    found, beyond = needed(curve(parameters), [*points, (32_000, curve(1500))])  # which is worse than 2,000 are
    assert found == pytest.approx(parameters)
    assert beyond == (not 1000 <= parameters <= 64_000)
    assert needed(math.inf, points) is None
    assert needed(1.0, points[:1]) is None


def test_an_arm_has_the_best_rate_of_those_with_all_seeds_and_lora_as_many_steps(tmp_path):
    rows = [row("lora", b, curve(p), parameters=p, seed=s) for b, p in ((1, 1000), (2, 2000)) for s in (0, 1)]
    rows += [row("lora+0.1", b, curve(p, worse=-0.1), parameters=p) for b, p in ((1, 1000), (2, 2000))]
    rows += [row("core warm-0.1", "1/2", loss, seed=s, parameters=250) for s, loss in ((0, 9.0), (1, 1.0))]
    rows += [row("core warm-0.1", "1/2", curve(2000, worse=-0.1), rate=5e-3, seed=s, parameters=250) for s in (0, 1)]
    rows += [row("core warm-0.1", "1/2", 0.1, rate=2.5e-3, parameters=250), row("lora", 1, 0.0, stage="rates")]
    folder = tmp_path / "gsm8k"
    folder.mkdir()
    (folder / "results.jsonl").write_text("".join(json.dumps(each) + "\n" for each in [*rows, rows[0]]))
    found = judged(read([tmp_path])["gsm8k"])
    assert found["lora", Fraction(1)]["loss"] == pytest.approx(curve(1000))
    assert found["lora", Fraction(1)]["seeds"] == 2
    assert found["core warm-0.1", Fraction(1, 2)]["rate"] == 5e-3
    assert baseline("core warm-0.1+continued", found) == "lora+0.1"
    assert baseline("core warm-0.2", found) == baseline("core random", found) == "lora"
    (line,) = [line for line in table(found) if "core" in line]
    assert "(8.0 ×)" in line
