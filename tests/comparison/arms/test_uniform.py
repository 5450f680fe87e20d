"""One size everywhere or on some places: as PEFT has it, as near to the budget as one step, on the places named."""

import attrs
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import zoo
from bert_profile import bert_profile
from comparison.arms.random_profiles import case_of, linear, profile_of, profiles
from layerlens_core.allocation.allocate import allocate
from layerlens_core.comparison.arms import uniform
from layerlens_core.comparison.arms.ground import Unfit
from layerlens_core.errors import BudgetError
from layerlens_core.inspection.inspect import inspect
from layerlens_core.values.inventory import Inventory, Layer

PROFILE = bert_profile([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], granularity="module")
SOME = {
    "mlp-only": uniform.mlp_only,
    "attention-only": uniform.attention_only,
    "top-half": uniform.top_half,
    "random-half": uniform.random_half,
    "dominant": uniform.dominant,
    "dominant-type": uniform.dominant_type,
}


def _case(profile=PROFILE, budget="r=4", seed=0):
    return case_of(profile, allocate(profile, budget="params=r=4"), budget, seed)


@settings(max_examples=40)
@given(profile=profiles(), rank=st.integers(1, 20))
def test_uniform_is_pefts_rank_everywhere_where_nothing_lies_outside(profile, rank):
    inside = attrs.evolve(profile, inventory=attrs.evolve(profile.inventory, outside=()))
    arm = uniform.uniform(_case(inside, f"r={rank}"))
    assert arm.sizes == {"lora": {module.name: rank for module in inside.inventory.modules}}
    assert arm.parameters == inside.inventory.lora_parameters(rank)


@settings(max_examples=60)
@given(
    profile=profiles(), amount=st.integers(1, 3000), name=st.sampled_from(["uniform", *SOME]), seed=st.integers(0, 2)
)
def test_sizes_differ_by_one_and_what_is_left_buys_no_further_step(profile, amount, name, seed):
    case = _case(profile, f"params={amount}", seed)
    try:
        arm = (SOME | {"uniform": uniform.uniform})[name](case)
    except (Unfit, BudgetError):
        assume(False)
    shapes = profile.inventory.shapes
    sizes = arm.sizes["lora"]
    widths = {place: shapes[place]["in_features"] + shapes[place]["out_features"] for place in sizes}
    full = {place: min(shapes[place].values()) for place in sizes}
    # The slow reference: the largest rank that fits, found by trying one after the other.
    even = 1
    while sum(min(even + 1, full[p]) * widths[p] for p in sizes) <= amount and even < max(full.values()):
        even += 1
    assert sizes.keys() == widths.keys()
    assert all(min(even, full[p]) <= sizes[p] <= min(even + 1, full[p]) for p in sizes)
    growing = [widths[p] for p in sizes if sizes[p] == min(even, full[p]) < full[p]]
    assert not growing or amount - arm.parameters < min(growing)


def test_what_a_budget_spends_outside_the_layers_goes_to_drawn_modules_and_is_said():
    pooled = attrs.evolve(
        PROFILE, inventory=attrs.evolve(PROFILE.inventory, outside=(linear("bert.pooler.dense", None, 96, 96),))
    )
    arm = uniform.uniform(_case(pooled))
    inventory = pooled.inventory
    assert inventory.lora_parameters(4) - 192 < arm.parameters <= inventory.lora_parameters(4)
    assert set(arm.sizes["lora"].values()) == {4, 5}
    assert "one more at" in arm.reason
    assert "PEFT's all-linear trains 1 more that no plan does" in arm.reason
    assert "bert.pooler.dense" not in arm.sizes["lora"]


def test_uniform_gives_a_rank_beyond_the_full_one_as_peft_does_where_the_budget_is_a_rank():
    layer = Layer(name="h.0", modules=(linear("h.0.gate", "h.0", 96, 1), linear("h.0.up", "h.0", 96, 96)))
    inventory = Inventory(architecture="M", model_type="m", parameters=10**5, layers=(layer,))
    profile = profile_of(inventory, {"h.0.gate": 1.0, "h.0.up": 2.0})
    plan = allocate(profile, budget="params=r=4")
    assert uniform.uniform(case_of(profile, plan, "r=4")).sizes["lora"] == {"h.0.gate": 4, "h.0.up": 4}
    capped = uniform.uniform(case_of(profile, plan, "params=1156"))
    assert capped.sizes["lora"] == {"h.0.gate": 1, "h.0.up": 5}
    assert "less at the 1 that cannot take it" in capped.reason


@pytest.mark.parametrize(
    "name", ["llama", "gpt2", "bert-classifier", "distilbert", "t5", "opt", "vit", "albert", "bloom"]
)
def test_attention_and_the_rest_share_the_modules_of_a_model(name):
    inventory = inspect(zoo.build(name))
    profile = profile_of(inventory, {module.name: 1.0 for module in inventory.modules})
    case = case_of(profile, allocate(profile, budget="params=r=4"), "r=4")
    inside, beside = (set(rule(case).sizes["lora"]) for rule in (uniform.attention_only, uniform.mlp_only))
    assert inside | beside == {module.name for module in inventory.modules}
    assert not inside & beside
    per_layer = {len([m for m in layer.modules if m.name in inside]) for layer in inventory.layers}
    expected = {"gpt2": {2}, "t5": {4, 8}, "bloom": {2}}
    assert per_layer == expected.get(name, {4})


def test_halves_have_as_many_layers_and_the_upper_one_the_uppermost():
    def layers(arm):
        return {int(name.split(".")[3]) for name in arm.sizes["lora"]}

    assert layers(uniform.top_half(_case())) == {3, 4, 5}
    drawn = [layers(uniform.random_half(_case(seed=seed))) for seed in range(6)]
    assert all(len(each) == 3 for each in drawn)
    assert len(set(map(frozenset, drawn))) > 1
    five = bert_profile([1.0] * 5, granularity="module")
    assert layers(uniform.top_half(_case(five))) == {2, 3, 4}
    assert len(layers(uniform.random_half(_case(five)))) == 3


def test_the_dominant_module_is_the_one_of_the_largest_utility_at_full_rank_at_most():
    arm = uniform.dominant(_case())
    assert set(arm.sizes["lora"]) == {"bert.encoder.layer.5.output.dense"}
    assert uniform.dominant(_case(budget="r=50")).sizes["lora"] == {"bert.encoder.layer.5.output.dense": 96}
    kinds = {name.split(".", 4)[4] for name in uniform.dominant_type(_case()).sizes["lora"]}
    assert kinds == {"output.dense"}


def test_what_a_model_or_profile_does_not_have_is_said():
    by_layer = bert_profile([1.0, 2.0])
    with pytest.raises(Unfit, match="no metric of this profile scores modules"):
        uniform.dominant(_case(by_layer))
    with pytest.raises(Unfit, match="has 1 layer to train, which has no half"):
        uniform.top_half(_case(bert_profile([1.0], granularity="module")))
    layer = Layer(name="h.0", modules=(linear("h.0.up", "h.0", 8, 8),))
    profile = profile_of(
        Inventory(architecture="M", model_type="m", parameters=10**5, layers=(layer,)), {"h.0.up": 1.0}
    )
    with pytest.raises(Unfit, match="M has no linear module inside attention"):
        uniform.attention_only(_case(profile))
    with pytest.raises(Unfit, match="all linear modules of M lie outside attention: that is uniform"):
        uniform.mlp_only(_case(profile))
    with pytest.raises(Unfit, match="no place where prefix could attach"):
        _case(profile).ground("lora").places("prefix")
