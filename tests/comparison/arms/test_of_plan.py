"""Plans and arms say the same: `apply` of an arm's plan trains exactly the arm."""

import attrs
import peft
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zoo
from bert_profile import bert_profile
from comparison.arms.random_profiles import profile_of, profiles
from layerlens_core.adaptation.apply import apply
from layerlens_core.adaptation.attached import trainable_parameters
from layerlens_core.allocation.allocate import allocate
from layerlens_core.comparison.arms.make import make_arms
from layerlens_core.comparison.arms.of_plan import arm_of_plan, plan_of_arm
from layerlens_core.errors import PlanError
from layerlens_core.inspection.inspect import inspect
from layerlens_core.values.inventory import Skipped
from layerlens_core.values.plan import Plan

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

NAMES = ("plan", "uniform", "shuffled", "mlp-only", "attention-only", "top-half", "dominant", "gora", "method:adapter")
PROFILE = bert_profile([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], granularity="module")


@settings(max_examples=30)
@given(profile=profiles(), rank=st.integers(1, 6))
def test_there_and_back_again(profile, rank):
    plan = allocate(profile, budget=f"params=r={rank}", strategy="budget")
    arms, _ = make_arms((*NAMES, "method:prefix"), [f"r={rank}"], profile=profile, plan=plan)
    for arm in arms:
        made = plan_of_arm(arm, profile, request=plan.request)
        made.check()
        made.check_profile(profile)
        assert made.parameters == arm.parameters
        assert made.cost.memory == arm.memory
        back = arm_of_plan(made, arm.name, arm.budget)
        assert (back.sizes, back.scale, back.parameters) == (arm.sizes, arm.scale, arm.parameters)
    assert plan_of_arm(arms[0], profile, request=plan.request).cost == plan.cost


def _profiled(name):
    model = zoo.build(name)
    inventory = inspect(model)
    return model, profile_of(inventory, {m.name: 1.0 + at % 5 for at, m in enumerate(inventory.modules)})


@pytest.mark.parametrize("name", ["llama", "gpt2", "bert-classifier", "t5"])
@pytest.mark.parametrize("arm", NAMES)
def test_apply_trains_exactly_the_arm(name, arm):
    _, profile = _profiled(name)
    plan = allocate(profile, budget="params=r=3", abstain=False)
    (made,), dropped = make_arms([arm], ["r=3"], profile=profile, plan=plan)
    assert not dropped
    model, _ = _profiled(name)
    adapters, heads = trainable_parameters(apply(model, plan_of_arm(made, profile, request=plan.request)))
    assert adapters == made.parameters
    assert heads == plan.head_parameters


def test_uniform_is_what_pefts_all_linear_trains():
    model, profile = _profiled("llama")
    plan = allocate(profile, budget="params=r=3", abstain=False)
    (arm,), _ = make_arms(["uniform"], ["r=3"], profile=profile, plan=plan)
    config = peft.LoraConfig(r=3, target_modules="all-linear", task_type="CAUSAL_LM")
    trained, _ = peft.get_peft_model(model, config).get_nb_trainable_parameters()
    assert arm.parameters == trained


def test_a_plan_of_an_arm_can_be_written_and_read(tmp_path):
    plan = allocate(PROFILE, budget="params=r=4")
    (arm,), _ = make_arms(["mlp-only"], ["params=20k"], profile=PROFILE, plan=plan)
    made = plan_of_arm(arm, PROFILE, request=plan.request)
    made.save(tmp_path)
    assert Plan.load(tmp_path) == made
    assert made.limits.params == 20_000
    assert made.request.strategy == "mlp-only"


def test_modules_and_layers_without_a_score_are_left_alone():
    inventory = PROFILE.inventory
    dead = inventory.layers[0]
    lost = inventory.layers[1].modules[0]
    without = {name: v for name, v in PROFILE.scores[0].values.items() if not name.startswith(dead.name)}
    del without[lost.name]
    profile = attrs.evolve(
        profile_of(inventory, without),
        unscored=tuple(Skipped(name=m.name, reason="never called") for m in (*dead.modules, lost)),
    )
    plan = allocate(profile, budget="params=r=4")
    (arm,), _ = make_arms(["uniform"], ["r=4"], profile=profile, plan=plan)
    assert lost.name not in arm.sizes["lora"]
    assert not any(n.startswith(f"{dead.name}.") for n in arm.sizes["lora"])
    made = plan_of_arm(arm, profile, request=plan.request)
    assert made.decisions[0].method == "none"
    assert made.decisions[0].unit == dead.name


def test_what_no_plan_can_say_is_refused():
    plan = allocate(PROFILE, budget="params=r=4")
    (arm, full, adalora), _ = make_arms(["uniform", "full", "adalora"], ["r=4"], profile=PROFILE, plan=plan)
    with pytest.raises(PlanError, match="the arm full r=4 is trained by full; no plan says so"):
        plan_of_arm(full, PROFILE)
    with pytest.raises(PlanError, match="is trained by adalora"):
        plan_of_arm(adalora, PROFILE)
    with pytest.raises(PlanError, match=r"has a scale α/r of 0.5; plans have whole ones"):
        plan_of_arm(attrs.evolve(arm, scale=0.5), PROFILE)
    with pytest.raises(PlanError, match="is for 7 trainable parameters, but its sizes take 41,472"):
        plan_of_arm(attrs.evolve(arm, parameters=7), PROFILE)
    with pytest.raises(PlanError, match=r"puts lora on pooler, where this profile has no place for it"):
        plan_of_arm(attrs.evolve(arm, sizes={"lora": {"pooler": 1}}), PROFILE)
    name = PROFILE.inventory.layers[0].modules[3].name
    with pytest.raises(PlanError, match="would hold adapter and lora; a layer holds one method"):
        plan_of_arm(attrs.evolve(arm, sizes={"adapter": {name: 1}, "lora": {name: 1}}), PROFILE)
    more = {name: 2 * size for name, size in arm.sizes["lora"].items()}
    with pytest.raises(PlanError, match="its own limit of 41,472"):
        plan_of_arm(attrs.evolve(arm, sizes={"lora": more}, parameters=2 * arm.parameters), PROFILE)
    nothing = attrs.evolve(plan, decisions=())
    with pytest.raises(PlanError, match="the plan trains nothing"):
        arm_of_plan(nothing, "plan", "r=4")
