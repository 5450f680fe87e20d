"""Raw scores: one finite number each, and from modules to layers by their sum or their weighted mean."""

import numpy as np
import pytest

from layerlens_core.errors import ScoreError
from layerlens_core.values.inventory import Inventory, Layer, LinearModule
from layerlens_core.values.scores import RawScores, default_metric

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
    summed = RawScores(metric="s", unit="1", granularity="module", values=values, reduction="sum")
    assert summed.by_layer(INVENTORY) == {"L0": 3.0, "L1": 5.0}
    mean = RawScores(metric="m", unit="1", granularity="module", values=values, reduction="weighted_mean")
    assert mean.by_layer(INVENTORY) == {"L0": (6 * 1.0 + 24 * 2.0) / 30, "L1": 5.0}

    plain = RawScores(metric="m", unit="1", granularity="module", values=values, reduction="mean")
    assert plain.by_layer(INVENTORY) == {"L0": 1.5, "L1": 5.0}


@pytest.mark.parametrize("reduction", [None, "median", "max"])
def test_modules_without_a_known_reduction_are_refused_by_metric(reduction):
    with pytest.raises(ScoreError, match=r"metric 'ratio': .*'sum' for what adds up.*'mean' for ratios"):
        RawScores(metric="ratio", unit="1", granularity="module", values={"L0.a": 1.0}, reduction=reduction)


def test_a_sum_that_no_number_holds_is_told_with_metric_and_layer_and_a_mean_is_right():
    values = {"L0.a": 1.7e308, "L0.b": 1.7e308, "L1.a": 1.0}
    summed = RawScores(metric="huge", unit="1", granularity="module", values=values, reduction="sum")
    with pytest.raises(ScoreError, match="metric 'huge' in layer L0 add up to more than a number can hold"):
        summed.by_layer(INVENTORY)
    for reduction in ("mean", "weighted_mean"):
        mean = RawScores(metric="huge", unit="1", granularity="module", values=values, reduction=reduction)
        assert mean.by_layer(INVENTORY) == pytest.approx({"L0": 1.7e308, "L1": 1.0})
    opposed = RawScores(
        metric="huge", unit="1", granularity="module", values={"L0.a": 1.7e308, "L0.b": -1.7e308},
        reduction="weighted_mean",
    )  # fmt: skip
    assert opposed.by_layer(INVENTORY)["L0"] == pytest.approx(1.7e308 * ((6 - 24) / 30))


@pytest.mark.parametrize(("error", "said"), [(-1.0, "-1 as the standard error of L0"), (float("nan"), "nan as the")])
def test_a_standard_error_is_a_number_of_at_least_zero(error, said):
    with pytest.raises(ScoreError, match=said):
        RawScores(metric="s", unit="1", granularity="layer", values={"L0": 1.0}, errors={"L0": error})


def test_scalars_of_numpy_are_kept_as_floats():
    scores = RawScores(metric="s", unit="1", granularity="layer", values={"L0": np.float32(0.5), "L1": np.int64(2)})
    assert [type(value) for value in scores.values.values()] == [float, float]


@pytest.mark.parametrize("values", [None, [1.0], 3.0])
def test_what_has_no_names_is_refused(values):
    with pytest.raises(ScoreError, match="must give one score by name"):
        RawScores(metric="s", unit="1", granularity="layer", values=values)


def test_layers_without_a_score_are_left_out():
    scores = RawScores(metric="s", unit="1", granularity="layer", values={"L1": 2.0, "elsewhere": 7.0})
    assert scores.by_layer(INVENTORY) == {"L1": 2.0}
    modules = RawScores(metric="s", unit="1", granularity="module", values={"L1.a": 2.0}, reduction="sum")
    assert modules.by_layer(INVENTORY) == {"L1": 2.0}


@pytest.mark.parametrize("score", [float("nan"), float("inf"), True, "1.0", None])
def test_what_is_no_finite_number_is_refused_by_name(score):
    with pytest.raises(ScoreError, match="L0"):
        RawScores(metric="s", unit="1", granularity="layer", values={"L0": score})


@pytest.mark.parametrize(
    ("given", "name", "why"),
    [
        ({}, "gora", None),
        ({"sharded": True}, "weight_gradient", "weights are sharded"),
        ({"samples": "auto"}, "weight_gradient", "samples are taken until a mean over them has settled"),
        ({"scores": "sketch"}, "weight_gradient", "scores are asked for as sketch"),
        ({"scores": "auto"}, "weight_gradient", "scores are asked for as auto"),
    ],
)
def test_the_default_metric_is_the_one_with_the_best_evidence_where_it_can_be_had(given, name, why):
    assert default_metric(**{"sharded": False, "samples": "all", "scores": "exact", **given}) == (name, why)
