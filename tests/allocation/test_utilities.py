"""Normalised exactly once, weighted by keys that match: the two faults that must not come back."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
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
        ({"fisher": 1.0, "gradient_energy": None}, "weight of gradient_energy is None"),
        ({"fisher": 1.0, "gradient_energy": "2"}, "weight of gradient_energy is '2'"),
        ({"fisher": 1.0, "gradient_energy": True}, "weight of gradient_energy is True"),
        ({"fisher": 1.0, "gradient_energy": 1j}, "weight of gradient_energy is 1j"),
        ({"fisher": 1.0, 3: 1.0}, "Unknown: 3; without a weight: gradient_energy"),
        ([1.0, 1.0], "weights are given by name of metric"),
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
    with pytest.raises(ScoreError, match="'mine' gave inf as the score of L0; it must be finite"):
        by_layer("mine", [math.inf])


@pytest.mark.parametrize("normalizer", NORMALIZERS)
@given(values=st.lists(st.one_of(st.just(0.0), positive), min_size=1, max_size=12))
def test_utilities_of_non_zero_scores_are_non_zero(normalizer, values):
    for raw, value in zip(values, utilities(by_layer("m", values), normalizer=normalizer).values, strict=True):
        # Beyond 300 orders of magnitude between two layers a share is below what a float can hold.
        assert raw == 0 or value > 0 or max(values) / raw > 1e300


def _apart(least):
    """Values of six digits, as those that are equal but for rounding would change rank or z-score with the rounding."""
    return st.floats(least, 1e6).map(lambda value: float(f"{value:.6g}") if abs(value) > 1e-3 else 0.0)


@pytest.mark.parametrize("normalizer", NORMALIZERS)
@pytest.mark.parametrize("combine", [weighted_mean, weighted_max])
@given(
    columns=st.lists(st.tuples(_apart(-1e6), _apart(0)), min_size=1, max_size=10),
    factor=st.floats(1e-6, 1e6),
)
def test_scaling_one_metric_changes_no_utility(normalizer, combine, columns, factor):
    first, second = ([pair[side] for pair in columns] for side in (0, 1))
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


def test_a_metric_is_given_once_and_units_are_layers_or_modules():
    with pytest.raises(ScoreError, match="metric 'a' is there twice"):
        utilities(by_layer("a", [1.0]), by_layer("a", [2.0]))
    with pytest.raises(ScoreError, match="not 'block'"):
        aggregate([by_layer("a", [1.0])], inventory(1), combine=weighted_mean, aggregator="t", granularity="block")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([1.0], "must give 2 finite utilities, one for each unit, but gave 1"),
        ([], "must give 2 finite utilities, one for each unit, but gave 0"),
        ([1.0, 2.0, 3.0], "but gave more: 1.0, 2.0, 3.0 …"),
        ([1.0, math.nan], "gave nan for L1"),
        ([math.inf, 1.0], "gave inf for L0"),
        ([1.0, None], "gave None for L1"),
        (["1", 1.0], "gave '1' for L0"),
        ([1.0, 1j], "gave 1j for L1"),
    ],
)
def test_what_an_aggregator_gives_is_told_with_its_name_and_the_layer(given, said):
    with pytest.raises(ScoreError, match="aggregator 'test' ") as caught:
        utilities(by_layer("a", [1.0, 2.0]), combine=lambda columns, weights: given)
    assert said in str(caught.value)


def test_scalars_of_numpy_are_utilities_and_weights():
    found = utilities(
        by_layer("a", [1.0, 2.0]),
        weights={"a": np.float32(2)},
        combine=lambda columns, weights: np.asarray(columns["a"], dtype=np.float32),
    )
    assert found.values == pytest.approx((1 / 3, 2 / 3))
    assert {type(value) for value in (*found.values, *found.weights.values())} == {float}


@pytest.mark.parametrize("scale", [1e308, 1.0, 1e-300, 5e-324])
def test_only_proportions_of_weights_count(scale):
    scores = [by_layer("a", [1.0, 0.0]), by_layer("b", [0.0, 1.0])]
    assert utilities(*scores, weights={"a": scale, "b": scale}).values == pytest.approx((0.5, 0.5))


@pytest.mark.parametrize("wrong", [math.nan, math.inf, None, "1", True])
@pytest.mark.parametrize("normalizer", NORMALIZERS)
def test_a_normalizer_refuses_what_is_no_finite_number(normalizer, wrong):
    with pytest.raises(ScoreError, match=f"normalizer '{normalizer}' got .*; scores must be finite numbers"):
        normalize([1.0, wrong, 2.0], normalizer)


def slowly(values, normalizer):
    """Every normalizer as its formula says, for numbers of ordinary size."""
    n, sizes = len(values), [abs(value) for value in values]
    if normalizer == "zscore":
        mean = sum(values) / n
        spread = math.sqrt(sum((value - mean) ** 2 for value in values) / n)
        return [NormalDist().cdf((value - mean) / spread) if spread > 0 else 0.5 for value in values]
    if not any(sizes):
        return [0.0] * n
    if normalizer == "rank":
        ranks = [sum(b < a for b in sizes) + (sizes.count(a) + 1) / 2 for a in sizes]
        return [math.copysign(rank / n, value) if value else 0.0 for rank, value in zip(ranks, values, strict=True)]
    if normalizer == "log":
        sizes = [math.log(1 + size * n / sum(sizes)) for size in sizes]
    whole = max(sizes) if normalizer == "max" else sum(sizes)
    return [math.copysign(size / whole, value) for size, value in zip(sizes, values, strict=True)]


@pytest.mark.parametrize("normalizer", NORMALIZERS)
@given(values=st.lists(st.integers(-1000, 1000).map(lambda value: value / 8), min_size=1, max_size=12))
def test_normalizers_are_their_formulas(normalizer, values):
    assert normalize(values, normalizer) == pytest.approx(slowly(values, normalizer), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("normalizer", NORMALIZERS)
@given(values=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=12))
def test_whatever_is_finite_stays_finite_and_sums_to_what_is_promised(normalizer, values):
    found = normalize(values, normalizer)
    assert all(math.isfinite(value) and abs(value) <= 1 for value in found)
    if normalizer in ("share", "log"):
        assert math.fsum(map(abs, found)) == pytest.approx(1.0 if any(values) else 0.0)
    if normalizer != "zscore":
        assert all(value == 0 or (value > 0) == (raw > 0) for value, raw in zip(found, values, strict=True))


@pytest.mark.parametrize("normalizer", NORMALIZERS)
@given(
    values=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=12),
    draw=st.randoms(use_true_random=False),
)
def test_the_order_of_units_does_not_matter(normalizer, values, draw):
    order = list(range(len(values)))
    draw.shuffle(order)
    found = normalize(values, normalizer)
    assert normalize([values[i] for i in order], normalizer) == [found[i] for i in order]


COLUMNS = st.lists(st.tuples(*[st.floats(-1, 1)] * 3), min_size=1, max_size=8)
WEIGHTS = st.tuples(*[st.integers(0, 8)] * 3).filter(any)


@pytest.mark.parametrize("combine", [weighted_mean, weighted_max])
@given(rows=COLUMNS, weights=WEIGHTS, draw=st.randoms(use_true_random=False))
def test_aggregators_are_their_formulas_monotone_and_blind_to_order(combine, rows, weights, draw):
    shares = {str(m): weight / sum(weights) for m, weight in enumerate(weights)}

    def combined(rows):
        return combine({str(m): [row[m] for row in rows] for m in range(3)}, shares)

    found = combined(rows)
    terms = [[shares[str(m)] * row[m] for m in range(3) if shares[str(m)] > 0] for row in rows]
    assert found == pytest.approx([sum(row) if combine is weighted_mean else max(row) for row in terms], abs=1e-12)
    assert all(-1 - 1e-12 <= value <= 1 + 1e-12 for value in found)
    for one, x in zip(rows, found, strict=True):
        for other, y in zip(rows, found, strict=True):
            assert x <= y or any(a > b for a, b in zip(one, other, strict=True))
    order = list(range(len(rows)))
    draw.shuffle(order)
    assert combined([rows[i] for i in order]) == [found[i] for i in order]
