"""Ranks in proportion to tempered utility: by module, within hard bounds, and nothing frozen that need not be."""

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from layerlens_core.allocation.allocate import allocate
from layerlens_core.errors import PlanError
from layerlens_core.values.costs import Activations
from layerlens_core.values.scores import RawScores


def plan(profile, *budget, **arguments):
    return allocate(profile, strategy="tempered", budget=list(budget), abstain=False, margins=False, **arguments)


def with_activations(profile):
    names = [layer.name for layer in profile.inventory.layers]
    kept = Activations(through=dict.fromkeys(names, 900.0), adapted=dict.fromkeys(names, 100.0), head=10.0)
    return attrs.evolve(profile, activations=kept)


def weights_by_module(profile):
    """Raw score for each parameter of a rank, by module."""
    shapes = {m.name: m.in_features + m.out_features for m in profile.inventory.modules}
    return {name: value / shapes[name] for name, value in profile.scores[0].values.items()}


def test_ranks_follow_the_modules_own_utilities(make_profile):
    profile = make_profile([1, 2, 3, 4], granularity="module")
    planned = plan(profile, "params=r=8")
    ranks, weights = planned.sizes("lora"), weights_by_module(profile)
    mean = sum(ranks.values()) / sum(w**0.5 for w in weights.values())
    for name, rank in ranks.items():
        assert abs(rank - mean * weights[name] ** 0.5) < 1.5
    assert planned.request.granularity == "module"
    assert planned.limit - planned.parameters < 96 + 4 * 96


def test_by_layer_all_modules_of_a_layer_share_a_rank(make_profile):
    planned = plan(make_profile([1, 2, 3, 4], granularity="module"), "params=r=8", granularity="layer")
    assert all(len(set(d.sizes.values())) == 1 for d in planned.decisions)
    assert [d.size for d in planned.decisions] == sorted(d.size for d in planned.decisions)
    assert len({d.size for d in planned.decisions}) > 1


def test_where_only_layers_are_scored_modules_get_the_layers_rank_up_to_left_overs(make_profile):
    by_default = plan(make_profile([1, 2, 3, 4]), "params=r=8")
    assert [d.sizes for d in by_default.decisions] == [
        d.sizes for d in plan(make_profile([1, 2, 3, 4]), "params=r=8", granularity="layer").decisions
    ]


def test_a_metric_of_layers_beside_one_of_modules_moves_whole_layers(make_profile):
    profile = make_profile([1.0] * 4, granularity="module")
    layers = [layer.name for layer in profile.inventory.layers]
    other = RawScores(
        metric="other", unit="1", granularity="layer", values=dict(zip(layers, (1.0, 1.0, 1.0, 9.0), strict=True))
    )
    planned = plan(attrs.evolve(profile, scores=(*profile.scores, other)), "params=r=8")
    totals = [sum(d.sizes.values()) for d in planned.decisions]
    assert totals[3] > 1.2 * max(totals[:3])
    assert all(len(set(d.sizes.values())) > 1 for d in planned.decisions)


@settings(suppress_health_check=[*settings().suppress_health_check, HealthCheck.function_scoped_fixture])
@given(
    scores=st.lists(st.floats(0, 100), min_size=1, max_size=6),
    rank=st.integers(1, 80),
    extra=st.integers(0, 5000),
    granularity=st.sampled_from(["layer", "module"]),
    temper=st.sampled_from([0, 0.5, 1, 2]),
)
def test_no_layer_is_frozen_and_no_module_left_out_at_any_budget_of_a_rank(
    make_profile, scores, rank, extra, granularity, temper
):
    budget = 1728 * len(scores) * rank + extra
    planned = plan(make_profile(scores, granularity=granularity), f"params={budget}", options={"temper": temper})
    sizes = planned.sizes("lora")
    assert len(sizes) == 6 * len(scores)
    assert min(sizes.values()) >= 1
    # Small modules may be raised further where the large ones are at their largest.
    assert max(sizes.values()) <= 4 * (budget / (1728 * len(scores))) + 1 or 64 in sizes.values()
    assert planned.parameters <= budget
    assert budget - planned.parameters < 1728 or min(sizes.values()) == 64


def test_temper_zero_is_uniform(make_profile):
    profile = make_profile([1, 20, 3], granularity="module")
    tempered = plan(profile, "params=r=6", options={"temper": 0})
    uniform = allocate(profile, strategy="uniform", budget="params=r=6")
    assert tempered.sizes("lora") == uniform.sizes("lora")


def test_more_temper_is_more_spread(make_profile):
    profile = make_profile([1, 2, 3, 4], granularity="module")
    spreads = []
    for temper in (0, 0.25, 0.5, 1):
        ranks = plan(profile, "params=r=8", options={"temper": temper}).sizes("lora").values()
        spreads.append(max(ranks) / min(ranks))
    assert spreads == sorted(spreads)
    assert spreads[-1] > 2 * spreads[1]


def test_few_parameters_go_to_the_most_useful_modules_a_rank_each(make_profile):
    profile = make_profile([1, 2, 3, 4], granularity="module")
    planned = plan(profile, "params=3000")
    weights, sizes = weights_by_module(profile), planned.sizes("lora")
    assert set(sizes.values()) == {1}
    best = max(weights, key=lambda name: weights[name])
    assert best in sizes
    # Whoever is left out does not fit beside those of more weight.
    spent = sum(192 if "output.dense" not in name and "intermediate" not in name else 0 for name in sizes)
    assert spent <= planned.parameters <= 3000
    assert 3000 - planned.parameters < 192
    assert "the budget has no parameters for" in planned.notes[0]


@pytest.mark.parametrize("share", [0.5, 0.7, 0.9])
@pytest.mark.parametrize("kind", ["memory", "flops"])
def test_memory_and_flops_bound_hard_and_freeze_from_the_bottom(make_profile, kind, share):
    profile = with_activations(make_profile([5, 4, 3, 2, 1, 1, 1, 1], granularity="module"))
    whole = getattr(plan(profile, "params=r=8").cost, kind)
    floor = allocate(profile, strategy="uniform", budget=f"{kind}={whole}").limits
    bound = int(whole * share)
    assert getattr(floor, kind) > bound
    planned = plan(profile, f"{kind}={bound}", "params=r=8")
    assert getattr(planned.cost, kind) <= bound
    frozen = [d.method == "none" for d in planned.decisions]
    assert frozen == sorted(frozen, reverse=True)
    uniform = allocate(profile, strategy="uniform", budget=[f"{kind}={bound}", "params=r=8"])
    assert sum(frozen) == sum(d.method == "none" for d in uniform.decisions)
    if any(frozen):
        assert "costs about as much loss as" in planned.notes[0]
    # At least what uniform gets within the same bounds is made use of.
    assert planned.parameters >= 0.9 * uniform.parameters


@pytest.mark.parametrize("text", ["a", "-1", "nan", "3"])
def test_a_wrong_temper_is_refused(make_profile, text):
    with pytest.raises(PlanError, match="'temper' is a number from 0"):
        plan(make_profile([1, 2]), "params=r=8", options={"temper": text})


def test_other_strategies_do_not_decide_by_modules(make_profile):
    with pytest.raises(PlanError, match="'budget' decides by layer, not by 'module'"):
        allocate(make_profile([1, 2]), strategy="budget", granularity="module")


def test_adapters_have_a_size_a_layer(make_profile):
    planned = plan(make_profile([1, 2, 9], granularity="module"), "params=r=8", methods=["adapter"])
    assert all(len(set(d.sizes.values())) == 1 and d.method == "adapter" for d in planned.decisions)
    assert planned.decisions[2].size > planned.decisions[0].size
