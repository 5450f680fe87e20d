"""What follows from the sums over samples and groups, against plain arithmetic on small gradients."""

import random
import statistics

import pytest

from layerlens_core.values.statistics import FIELDS, STATISTICS, ModuleStatistics, SketchError


def gradients(samples, draw=None):
    draw = draw or random.Random(0)
    return [[draw.gauss(1, 1) for _ in range(3)] for _ in range(samples)]


def squared(vector):
    return sum(x * x for x in vector)


def mean(vectors):
    return [sum(column) / len(vectors) for column in zip(*vectors, strict=True)]


def gathered(vectors, size=2):
    """The sums of `ModuleStatistics` over gradients, by their definition; the weight is all ones."""
    groups = [vectors[i : i + size] for i in range(0, len(vectors) - size + 1, size)]
    means = [mean(group) for group in groups]
    importance = [sum(map(abs, each)) / 3 for each in means]
    return ModuleStatistics(
        module="w",
        weights=3,
        samples=len(vectors),
        groups=len(groups),
        group_size=size,
        sum_squared_norm=sum(map(squared, vectors)),
        sum_fourth_power=sum(squared(each) ** 2 for each in vectors),
        sum_group_mean_squared_norm=sum(map(squared, means)),
        sum_group_mean_fourth_power=sum(squared(each) ** 2 for each in means),
        sum_grouped_squared_norm=sum(squared(each) for group in groups for each in group),
        sum_weight_gradient=sum(importance),
        sum_squared_weight_gradient=sum(each**2 for each in importance),
    )


def test_means_and_their_standard_errors_are_those_of_the_terms():
    vectors = gradients(8)
    found = gathered(vectors)
    norms = [squared(each) for each in vectors]
    energies = [squared(mean(vectors[i : i + 2])) for i in range(0, 8, 2)]
    assert found.fisher == pytest.approx(statistics.mean(norms))
    assert found.fisher_standard_error == pytest.approx(statistics.stdev(norms) / 8**0.5)
    assert found.gradient_energy == pytest.approx(statistics.mean(energies))
    assert found.gradient_energy_standard_error == pytest.approx(statistics.stdev(energies) / 4**0.5)


def test_the_squared_norm_of_the_expected_gradient_comes_from_pairs_within_groups():
    vectors = gradients(10)  # the last one is in no full group
    pairs = [
        sum(a * b for a, b in zip(vectors[i + j], vectors[i + k], strict=True))
        for i in range(0, 9, 3)
        for j in range(3)
        for k in range(3)
        if j != k
    ]
    assert gathered(vectors, size=3).mean_gradient_squared_norm == pytest.approx(statistics.mean(pairs))
    with pytest.raises(ValueError, match="groups of at least two"):
        _ = gathered(vectors, size=1).mean_gradient_squared_norm


@pytest.mark.parametrize(
    ("what", "statistic"),
    [
        ("fisher", "sample_norms"),
        ("gradient_energy", "gradient_norms"),
        ("mean_gradient_squared_norm", "gradient_norms"),
        ("weight_gradient", "weight_gradient"),
        ("weight_gradient_standard_error", "weight_gradient"),
    ],
)
def test_what_was_not_gathered_is_named(what, statistic):
    nothing = ModuleStatistics(module="w", weights=3, samples=4, groups=2, group_size=2)
    with pytest.raises(ValueError, match=f"the statistic '{statistic}' was not gathered"):
        getattr(nothing, what)


def test_an_exact_sum_is_its_own_interval():
    found = gathered(gradients(4))
    assert found.fisher_interval == (found.fisher, found.fisher)
    assert SketchError(0.0, 4.0).interval(2.0) == (2.0, 2.0)


def test_an_interval_is_one_of_ratios_and_narrows_with_freedom():
    low, high = SketchError(0.01, 8.0).interval(2.0)
    assert low < 2.0 < high
    assert low * high == pytest.approx(4.0)
    closer = SketchError(0.01, 1e6).interval(2.0)
    assert low < closer[0] < closer[1] < high
    assert closer[1] == pytest.approx(2.0 * 2.718281828 ** (1.959964 * 0.1 / 2.0), rel=1e-4)


def test_every_field_that_is_gathered_on_demand_is_of_a_known_statistic():
    assert {name for names in FIELDS.values() for name in names} == set(STATISTICS)
    assert set(FIELDS) <= {each.name for each in ModuleStatistics.__attrs_attrs__}
