"""Normalised exactly once, weighted by keys that match: the two faults that must not come back."""

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from layerlens_builtin.aggregators.weighted_max import combine as weighted_max
from layerlens_builtin.aggregators.weighted_mean import combine as weighted_mean
from layerlens_core.allocation.utilities import aggregate, normalize
from layerlens_core.errors import ScoreError
from layerlens_core.values.inventory import Inventory, Layer, LinearModule
from layerlens_core.values.scores import RawScores

NORMALIZERS = ("share", "max", "rank", "zscore", "log")
positive = st.floats(1e-50, 1e50)


def inventory(layers: int) -> Inventory:
    """Layers L0, L1 … with a small and a large module each."""
    return Inventory(
        architecture="Toy",
        model_type="toy",
        parameters=10_000,
        layers=tuple(
            Layer(
                name=f"L{i}",
                modules=(
                    LinearModule(name=f"L{i}.a", layer=f"L{i}", kind="linear", in_features=2, out_features=3),
                    LinearModule(name=f"L{i}.b", layer=f"L{i}", kind="linear", in_features=4, out_features=6),
                ),
            )
            for i in range(layers)
        ),
    )


def by_layer(metric: str, values: list[float]) -> RawScores:
    columns = {f"L{i}": value for i, value in enumerate(values)}
    return RawScores(metric=metric, unit="1", granularity="layer", values=columns)


def utilities(*scores: RawScores, weights=None, normalizer="share", combine=weighted_mean):
    return aggregate(
        scores,
        inventory(len(scores[0].values)),
        weights=weights,
        normalizer=normalizer,
        combine=combine,
        aggregator="test",
    )


def test_weights_for_other_metrics_are_an_error_that_lists_both_sets():
    scores = [by_layer(name, [1.0, 2.0]) for name in ("gradient_energy", "fisher", "proxy_eval")]
    with pytest.raises(ScoreError) as caught:
        utilities(*scores, weights={"utility": 0.5, "cost": 0.2})
    for name in ("gradient_energy", "fisher", "proxy_eval", "utility", "cost"):
        assert name in str(caught.value)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"fisher": 1.0, "gradient_enrgy": 1.0}, "Did you mean 'gradient_energy'"),
        ({"fisher": 1.0}, "without a weight: gradient_energy"),
        ({"fisher": 1.0, "gradient_energy": -0.1}, "weight of gradient_energy is -0.1"),
        ({"fisher": 1.0, "gradient_energy": math.nan}, "weight of gradient_energy is nan"),
        ({"fisher": 0.0, "gradient_energy": 0.0}, "all weights are 0"),
    ],
)
def test_wrong_weights_are_refused(weights, message):
    with pytest.raises(ScoreError, match=message):
        utilities(by_layer("fisher", [1.0]), by_layer("gradient_energy", [1.0]), weights=weights)


def test_utilities_cannot_be_aggregated_again():
    first = utilities(by_layer("fisher", [1.0, 3.0]))
    assert first.values == (0.25, 0.75)
    with pytest.raises(ScoreError, match="takes RawScores, but got Utilities"):
        aggregate([first], inventory(2), combine=weighted_mean, aggregator="test")  # type: ignore[list-item]


def test_a_provider_that_gives_normalised_values_is_refused_by_type():
    normalized = utilities(by_layer("fisher", [1.0, 3.0]))
    with pytest.raises(ScoreError, match="gave Utilities"):
        by_layer("mine", [normalized, normalized])  # type: ignore[list-item]
    with pytest.raises(ScoreError, match="must be finite"):
        by_layer("mine", [math.inf])


@pytest.mark.parametrize("normalizer", NORMALIZERS)
@given(values=st.lists(st.one_of(st.just(0.0), positive), min_size=1, max_size=12))
def test_utilities_of_non_zero_scores_are_non_zero(normalizer, values):
    for raw, value in zip(values, utilities(by_layer("m", values), normalizer=normalizer).values, strict=True):
        # Beyond 300 orders of magnitude between two layers a share is below what a float can hold.
        assert raw == 0 or value > 0 or max(values) / raw > 1e300


@pytest.mark.parametrize("normalizer", NORMALIZERS)
@pytest.mark.parametrize("combine", [weighted_mean, weighted_max])
@given(
    columns=st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(0, 1e6)), min_size=1, max_size=10),
    factor=st.floats(1e-6, 1e6),
)
def test_scaling_one_metric_changes_no_utility(normalizer, combine, columns, factor):
    first, second = ([float(f"{pair[side]:.6g}") for pair in columns] for side in (0, 1))
    # Values that are equal but for rounding would change their rank or z-score with the rounding.
    assume(all(value == 0 or abs(value) > 1e-3 for value in (*first, *second)))
    one = utilities(by_layer("a", first), by_layer("b", second), normalizer=normalizer, combine=combine)
    scaled = [value * factor for value in first]
    other = utilities(by_layer("a", scaled), by_layer("b", second), normalizer=normalizer, combine=combine)
    assert other.values == pytest.approx(one.values, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("normalizer", NORMALIZERS)
@given(values=st.lists(st.floats(0, 1e9), min_size=1, max_size=12))
def test_a_larger_score_never_has_the_smaller_utility(normalizer, values):
    result = normalize(values, normalizer)
    for a, x in zip(values, result, strict=True):
        for b, y in zip(values, result, strict=True):
            assert x <= y or a > b


def test_normalizers_by_hand():
    values = [1.0, 3.0, 0.0, 4.0]
    assert normalize(values, "share") == [0.125, 0.375, 0.0, 0.5]
    assert normalize(values, "max") == [0.25, 0.75, 0.0, 1.0]
    assert normalize(values, "rank") == [0.5, 0.75, 0.0, 1.0]
    assert normalize([2.0, 2.0, 1.0], "rank") == pytest.approx([2.5 / 3, 2.5 / 3, 1 / 3])
    assert normalize([-1.0, 3.0], "share") == [-0.25, 0.75]
    logs = [math.log1p(v / 2.0) for v in values]
    assert normalize(values, "log") == pytest.approx([v / sum(logs) for v in logs])
    assert normalize([1.0, 3.0], "zscore") == pytest.approx([0.15865525, 0.84134475])
    assert normalize([0.0, 0.0], "share") == [0.0, 0.0]
    assert normalize([5.0, 5.0], "zscore") == [0.5, 0.5]
    with pytest.raises(ScoreError, match="Did you mean 'share'"):
        normalize(values, "shares")  # type: ignore[arg-type]


def test_metrics_that_score_different_layers_are_refused():
    one, other = by_layer("a", [1.0, 2.0]), RawScores(metric="b", unit="1", granularity="layer", values={"L0": 1.0})
    with pytest.raises(ScoreError, match="score different units: L1"):
        aggregate([one, other], inventory(2), combine=weighted_mean, aggregator="test")


def test_an_aggregator_that_gives_the_wrong_number_of_utilities_is_refused():
    with pytest.raises(ScoreError, match="must give 2 finite utilities"):
        utilities(by_layer("a", [1.0, 2.0]), combine=lambda columns, weights: [1.0])
