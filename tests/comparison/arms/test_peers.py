"""Others' rules: each by its published formula, and then brought to the same budget."""

import attrs
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from peft import AdaLoraConfig, get_peft_model
from peft.tuners.adalora import AdaLoraLayer

import zoo
from bert_profile import bert_profile
from comparison.arms.random_profiles import case_of, profile_of, profiles
from layerlens_core.allocation.allocate import allocate
from layerlens_core.comparison.arms import peers
from layerlens_core.comparison.arms.ground import Unfit
from layerlens_core.inspection.inspect import inspect
from layerlens_core.values.costs import Activations

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

_INVENTORY = bert_profile([1.0] * 6, granularity="module").inventory
PROFILE = profile_of(_INVENTORY, {m.name: 1.0 + (7 * at) % 11 for at, m in enumerate(_INVENTORY.modules)})


def _case(profile=PROFILE, budget="r=8", seed=0, request="params=r=4"):
    return case_of(profile, allocate(profile, budget=request), budget, seed)


def test_goras_ranks_by_hand():
    # Σ(in+out) = 400; at r₀ = 8 the whole is 3200, of which the shares are 320, 640 and 2240.
    ranks = peers.gora_ranks({"a": 1.0, "b": 2.0, "c": 7.0}, {"a": 100, "b": 100, "c": 200}, 8)
    assert ranks == {"a": 4, "b": 6, "c": 11}  # ⌊3.2⌋ raised to 4, ⌊6.4⌋, ⌊11.2⌋
    assert peers.gora_ranks({"a": 1.0, "b": 99.0}, {"a": 10, "b": 10}, 8) == {"a": 4, "b": 15}
    assert peers.gora_ranks({"a": 1.0, "b": 99.0}, {"a": 100, "b": 10}, 8) == {"a": 4, "b": 32}
    assert [peers.gora_bounds(rank) for rank in (8, 4, 2, 1)] == [(4, 32), (2, 16), (1, 8), (0, 4)]


@settings(max_examples=40)
@given(
    importance=st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=8),
    widths=st.lists(st.integers(1, 500), min_size=8, max_size=8),
    rank=st.integers(1, 16),
)
def test_goras_ranks_are_what_its_formula_says(importance, widths, rank):
    names = [str(at) for at in range(len(importance))]
    ranks = peers.gora_ranks(dict(zip(names, importance, strict=True)), dict(zip(names, widths, strict=False)), rank)
    total, whole = sum(importance), rank * sum(widths[: len(names)])
    for name, value, width in zip(names, importance, widths, strict=False):
        # Sums in another order may round to the whole number beside it.
        near = {round(value / total * whole * (1 + slack)) for slack in (-1e-12, 0, 1e-12)}
        assert ranks[name] in {max(rank // 2, min(4 * rank, parameters // width)) for parameters in near}


@settings(max_examples=40)
@given(profile=profiles(), rank=st.integers(1, 9))
def test_goras_arm_takes_the_budget_within_its_bounds(profile, rank):
    case = case_of(profile, allocate(profile, budget=f"params=r={rank}"), f"r={rank}")
    try:
        arm = peers.gora(case)
    except Unfit:
        assume(False)
    low, high = peers.gora_bounds(peers.rank_equivalent(case))
    shapes = profile.inventory.shapes
    caps = {m.name: min(high, m.in_features, m.out_features) for m in profile.inventory.modules}
    sizes = {name: arm.sizes["lora"].get(name, 0) for name in caps}
    assert all(min(low, caps[name]) <= sizes[name] <= caps[name] for name in caps)
    left = profile.inventory.lora_parameters(rank) - arm.parameters
    growing = [sum(shapes[name].values()) for name in caps if sizes[name] < caps[name]]
    assert not growing or left < min(growing)


def test_gora_needs_mean_weight_gradients_of_every_module():
    with pytest.raises(Unfit, match="profile with --metric gora"):
        peers.gora(_case(bert_profile([1.0, 2.0], granularity="module")))
    for metric in ("weight_gradient", "gora"):
        scored = attrs.evolve(PROFILE, statistics=(), scores=(attrs.evolve(PROFILE.scores[0], metric=metric),))
        assert peers.gora(_case(scored)).sizes == peers.gora(_case()).sizes


def test_more_important_modules_of_one_width_get_no_lower_rank_of_gora():
    sizes = peers.gora(_case()).sizes["lora"]
    scores = PROFILE.scores[0].values
    narrow = [m.name for m in _INVENTORY.modules if m.in_features == m.out_features]
    for one in narrow:
        for other in narrow:
            assert scores[one] <= scores[other] or sizes[one] >= sizes[other]


def test_evas_ranks_are_brought_to_the_budget_in_proportion():
    asked = []
    found = {m.name: (0, 4, 8, 12)[at % 4] for at, m in enumerate(_INVENTORY.modules)}

    def ranks(rank):
        asked.append(rank)
        return found

    arm = peers.eva(attrs.evolve(_case(), eva=ranks))
    sizes = arm.sizes["lora"]
    assert asked == [8]
    assert set(sizes) == {name for name, rank in found.items() if rank}
    factor = sum(sizes.values()) / sum(found.values())
    assert all(abs(sizes[name] - factor * found[name]) <= 1.5 for name in sizes)
    bound = _INVENTORY.lora_parameters(8)
    assert bound - 192 < arm.parameters <= bound
    assert "it gave 9 of 36 modules nothing" in arm.reason


def test_eva_without_a_model_or_a_module_is_dropped_with_the_reason():
    with pytest.raises(Unfit, match="needs the model and its data"):
        peers.eva(_case())
    with pytest.raises(Unfit, match=r"EVA gave .* no rank \(36 modules\)"):
        peers.eva(attrs.evolve(_case(), eva=lambda rank: {}))


def test_adalora_ends_at_uniforms_mean_rank_and_starts_half_again_as_high():
    arm = peers.adalora(_case())
    assert arm.tuner == "adalora"
    assert arm.parameters == _INVENTORY.lora_parameters(8)
    assert peers.adalora_ranks(arm) == (12, 8)
    assert "init_r=12 to target_r=8" in arm.reason
    assert set(peers.adalora(_case(budget="params=20k")).sizes["lora"].values()) == {1}


def test_memory_of_adalora_is_that_of_its_beginning():
    names = [layer.name for layer in _INVENTORY.layers]
    measured = attrs.evolve(
        PROFILE, activations=Activations(through=dict.fromkeys(names, 1.0), adapted=dict.fromkeys(names, 1.0), head=1.0)
    )
    arm = peers.adalora(_case(measured))
    ground = _case(measured).ground("lora")
    at_12 = ground.cost({"lora": dict.fromkeys(arm.sizes["lora"], 12)}).memory
    assert arm.memory == at_12
    with pytest.raises(Unfit, match="of memory"):
        peers.adalora(_case(measured, budget=f"params=r=8,memory={at_12 - 1:.0f}B"))


def test_full_trains_every_weight_and_heeds_a_budget_of_memory_alone():
    arm = peers.full(_case(budget="r=1"))
    assert arm.tuner == "full"
    assert arm.parameters == sum(m.in_features * m.out_features for m in _INVENTORY.modules)
    names = [layer.name for layer in _INVENTORY.layers]
    measured = attrs.evolve(
        PROFILE, activations=Activations(through=dict.fromkeys(names, 1.0), adapted=dict.fromkeys(names, 1.0), head=1.0)
    )
    arm = peers.full(_case(measured))
    # Weights and gradients of the linear modules, and both of AdamW's moments, on top of the frozen model.
    frozen = _case(measured).ground("lora").problem.candidates.depths[0].memory
    assert arm.memory == frozen + 6 * 4096 + 16 * arm.parameters
    assert peers.full(_case(measured, f"memory={arm.memory:.0f}B")).parameters == arm.parameters
    with pytest.raises(Unfit, match="full fine-tuning takes"):
        peers.full(_case(measured, f"memory={arm.memory - 1:.0f}B"))


def test_full_refuses_packed_weights():
    layer = _INVENTORY.layers[0]
    modules = (attrs.evolve(layer.modules[0], kind="packed"), *layer.modules[1:])
    inventory = attrs.evolve(_INVENTORY, layers=(attrs.evolve(layer, modules=modules), *_INVENTORY.layers[1:]))
    with pytest.raises(Unfit, match=r"query is packed .*\(1 modules\)"):
        peers.full(_case(attrs.evolve(PROFILE, inventory=inventory)))


def test_the_rank_that_a_budget_amounts_to():
    assert peers.rank_equivalent(_case(budget="r=8")) == 8
    assert peers.rank_equivalent(_case(budget="params=15552")) == 1.5


def test_pefts_adalora_ends_at_the_ranks_that_its_arm_counts():
    model = zoo.build("llama", spread=0.2)
    inventory = inspect(model)
    profile = profile_of(inventory, {module.name: 1.0 for module in inventory.modules})
    arm = peers.adalora(_case(profile, "r=4"))
    initial, target = peers.adalora_ranks(arm)
    config = AdaLoraConfig(
        init_r=initial, target_r=target, tinit=1, tfinal=2, total_step=8, deltaT=1, lora_alpha=arm.scale * initial,
        target_modules="all-linear", task_type="CAUSAL_LM",
    )  # fmt: skip
    tuned = get_peft_model(model, config)
    optimizer = torch.optim.SGD([p for p in tuned.parameters() if p.requires_grad], lr=1.0)
    batch = zoo.find("llama").inputs(labels=True)
    for step in range(1, 9):
        tuned(**batch).loss.backward()
        optimizer.step()
        tuned.base_model.update_and_allocate(step)
        optimizer.zero_grad()
    layers = [module for module in tuned.modules() if isinstance(module, AdaLoraLayer)]
    left = sum(int((layer.lora_E["default"] != 0).sum()) for layer in layers)
    assert left == sum(arm.sizes["lora"].values())
    assert all(layer.scaling["default"] / layer.ranknum["default"] == arm.scale for layer in layers)
