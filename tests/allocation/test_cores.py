"""Plans with cores: below LoRA's first rank, mixed with LoRA, and never over a budget."""

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from layerlens_core.allocation.allocate import allocate
from layerlens_core.allocation.build import build_unit
from layerlens_core.demo.scenarios import bert_layer, profile_of
from layerlens_core.errors import BudgetError, PlanError
from layerlens_core.plugin.registry import default
from layerlens_core.values.costs import Training
from layerlens_core.values.profile import WarmUp
from layerlens_core.values.scores import RawScores

PLAIN = profile_of([float(i + 1) for i in range(12)])
#: LoRA of rank 1 on all modules of these layers.
ONE = sum(m.in_features + m.out_features for layer in PLAIN.inventory.layers for m in layer.modules)
WARMED = attrs.evolve(
    PLAIN,
    warm_up=WarmUp(
        steps=70, rank=64, samples=100, rate=2e-3, batch=32, start="gradient", seconds=1.0, peak=0, digest="a" * 64
    ),
)


def by_module(profile, seed=1):
    """The same with scores of modules."""
    names = [module.name for module in profile.inventory.modules]
    values = {name: 1.0 + (7 * at * seed) % 11 for at, name in enumerate(names)}
    return attrs.evolve(
        profile,
        scores=(RawScores(metric="modules", unit="1", granularity="module", reduction="sum", values=values),),
    )


def test_costs_are_those_of_the_formulas():
    layer = bert_layer(0, width=96)
    training = Training(batch=2, length=10, dtype="float32")
    unit = build_unit(layer, 1.0, {"none": METHODS["none"], "core": METHODS["core"]})
    widths = [(m.in_features, m.out_features) for m in layer.modules]
    for size in (1, 2, 3, 17, 64):
        at = next(c for c in unit.candidates_of("core") if c.size == size)
        assert at.parameters == 6 * size**2
        assert at.cost.flops == pytest.approx(sum(2 * 2 * size * (i + o) + 3 * 2 * size**2 for i, o in widths))
    target = unit.targets["core"][0]
    one = target.cost(5, training)
    # R with gradient and states, U and V in float32, and x·Vᵀ of every token.
    assert one.memory == 25 * 16 + 4 * 5 * sum(widths[0]) + 20 * 5 * 4
    assert one.latency == 0


METHODS = {name: default().load("method", name) for name in ("none", "core", "lora")}


@pytest.mark.parametrize("strategy", ["tempered", "uniform", "budget"])
@pytest.mark.parametrize("budget", ["r=0.0625", "r=0.25", "r=.5", "5k"])
@pytest.mark.parametrize("profile", [WARMED, by_module(WARMED)], ids=["layers", "modules"])
def test_below_rank_one_every_layer_is_trained_by_cores(strategy, budget, profile):
    plan = allocate(profile, strategy=strategy, budget=f"params={budget}", abstain=False)
    limit = int(float(budget[2:]) * ONE) if budget.startswith("r=") else 5_000
    assert plan.limits.params == limit
    assert plan.parameters <= limit
    assert {d.method for d in plan.decisions} == {"core"} or strategy == "budget"
    assert all(d.method != "none" for d in plan.decisions)
    assert plan.parameters >= 0.9 * limit or strategy == "uniform"
    assert plan.subspace == "a" * 64
    assert sum(size**2 for size in plan.sizes("core").values()) <= plan.parameters


def test_the_reason_says_why_cores_and_not_lora():
    plan = allocate(WARMED, strategy="tempered", budget="params=r=0.25", abstain=False)
    assert all("where lora has" in d.reason for d in plan.decisions)
    many = allocate(WARMED, strategy="tempered", budget="params=r=8", methods="core,lora", abstain=False)
    assert {d.method for d in many.decisions} == {"lora"}
    assert all("where core has" in d.reason for d in many.decisions)
    assert many.subspace is None


def test_without_subspaces_lora_goes_to_part_of_the_modules():
    plan = allocate(by_module(PLAIN), strategy="tempered", budget="params=r=0.25", abstain=False)
    assert set(plan.sizes("lora").values()) == {1}
    assert 0.9 * 0.25 * ONE <= plan.parameters <= 0.25 * ONE
    with pytest.raises(PlanError, match="profile with --warm-up 10%"):
        allocate(PLAIN, budget="params=r=0.25", methods="core")


def test_a_core_is_no_larger_than_its_subspace():
    few = attrs.evolve(WARMED, warm_up=attrs.evolve(WARMED.warm_up, rank=10))
    plan = allocate(few, strategy="uniform", budget="params=r=2", methods="core")
    assert set(plan.sizes("core").values()) == {10}
    gradient = attrs.evolve(PLAIN, directions="b" * 64)
    plan = allocate(gradient, strategy="uniform", budget="params=r=8", methods="core")
    assert (set(plan.sizes("core").values()), plan.subspace) == ({64}, "b" * 64)


def test_larger_utilities_get_larger_cores():
    plan = allocate(by_module(WARMED), strategy="tempered", budget="params=r=0.5", methods="core", abstain=False)
    sizes = plan.sizes("core")
    scores = by_module(WARMED).scores[0].values
    query = sorted((scores[name], size) for name, size in sizes.items() if name.endswith("query"))
    assert [size for _, size in query] == sorted(size for _, size in query)
    assert query[0][1] < query[-1][1]


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=25)
@given(limit=st.integers(72, 3 * ONE), scores=st.lists(st.floats(0.01, 100), min_size=12, max_size=12))
def test_the_knapsack_mixes_cores_and_lora_and_never_exceeds_a_budget(limit, scores):
    profile = attrs.evolve(WARMED, scores=profile_of(scores).scores)
    plan = allocate(profile, strategy="budget", budget=f"params={limit}", methods="core,lora", margins=False)
    assert plan.parameters <= limit
    assert plan.certificate.value <= plan.certificate.bound * (1 + 1e-9)


def test_a_budget_between_the_two_is_spent_on_both():
    profile = attrs.evolve(WARMED, scores=profile_of([100.0] * 2 + [1.0] * 10).scores)
    gains = {"core": (0.8, 1.0), "lora": (1.0, 0.05)}
    plan = allocate(profile, strategy="budget", budget="params=r=0.3", methods="core,lora", gains=gains)
    assert {d.method for d in plan.decisions} == {"core", "lora"}
    assert [d.method for d in plan.decisions][:2] == ["lora", "lora"]
    assert plan.parameters <= plan.limits.params


@pytest.mark.parametrize("methods", ["core,adapter,lora", "core,prefix", "core,lora"])
@pytest.mark.parametrize("strategy", ["tempered", "uniform"])
def test_cores_take_the_place_of_whatever_does_not_fit(methods, strategy):
    plan = allocate(WARMED, strategy=strategy, budget="params=r=0.1", methods=methods, abstain=False)
    assert {d.method for d in plan.decisions} == {"core"}
    assert f"where {methods.rpartition(',')[2]} has" in plan.decisions[0].reason


@pytest.mark.parametrize("strategy", ["tempered", "uniform", "budget"])
@pytest.mark.parametrize("budget", ["params=r=1,memory=50%", "flops=60%", "params=3k,flops=60%"])
def test_other_budgets_are_kept_too(strategy, budget):
    plan = allocate(WARMED, strategy=strategy, budget=budget, methods="core,lora", abstain=False)
    assert plan.cost.within(plan.limits)


def test_a_strategy_of_prices_a_step_refuses_cores():
    with pytest.raises(PlanError, match="which core does not have, with parameters that grow with the square"):
        allocate(WARMED, strategy="threshold", budget="params=r=1", methods="core,lora")


def test_ranks_that_are_none_are_refused():
    for text in ("r=0", "r=0.0", "r=.0"):
        with pytest.raises(BudgetError, match=r"leaves nothing to train; give a rank above 0, such as r=0\.25"):
            allocate(PLAIN, budget=f"params={text}")
    with pytest.raises(BudgetError, match="cannot be read"):
        allocate(PLAIN, budget="params=r=1/4")
