"""Raw scores: one finite number each, and from modules to layers by their sum or their weighted mean."""

import pytest

from layerlens_core.errors import ScoreError
from layerlens_core.values.inventory import Inventory, Layer, LinearModule
from layerlens_core.values.scores import RawScores

#: Two layers with a small and a large module each.
INVENTORY = Inventory(
    architecture="Toy",
    model_type="toy",
    parameters=10_000,
    layers=tuple(
        Layer(
            name=layer,
            modules=(
                LinearModule(name=f"{layer}.a", layer=layer, kind="linear", in_features=2, out_features=3),
                LinearModule(name=f"{layer}.b", layer=layer, kind="linear", in_features=4, out_features=6),
            ),
        )
        for layer in ("L0", "L1")
    ),
)


def test_modules_add_up_to_layers_by_sum_or_by_weights():
    values = {"L0.a": 1.0, "L0.b": 2.0, "L1.b": 5.0}
    summed = RawScores(metric="s", unit="1", granularity="module", values=values)
    assert summed.by_layer(INVENTORY) == {"L0": 3.0, "L1": 5.0}
    mean = RawScores(metric="m", unit="1", granularity="module", values=values, reduction="weighted_mean")
    assert mean.by_layer(INVENTORY) == {"L0": (6 * 1.0 + 24 * 2.0) / 30, "L1": 5.0}


def test_layers_without_a_score_are_left_out():
    scores = RawScores(metric="s", unit="1", granularity="layer", values={"L1": 2.0, "elsewhere": 7.0})
    assert scores.by_layer(INVENTORY) == {"L1": 2.0}
    modules = RawScores(metric="s", unit="1", granularity="module", values={"L1.a": 2.0})
    assert modules.by_layer(INVENTORY) == {"L1": 2.0}


@pytest.mark.parametrize("score", [float("nan"), float("inf"), True, "1.0", None])
def test_what_is_no_finite_number_is_refused_by_name(score):
    with pytest.raises(ScoreError, match="L0"):
        RawScores(metric="s", unit="1", granularity="layer", values={"L0": score})
