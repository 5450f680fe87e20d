"""The plan: what it says of itself, how it tells another model, and that it survives its file."""

import hashlib
import json
import math
import re

import attrs
import pytest

from layerlens_core.errors import FileError, PlanError
from layerlens_core.values.costs import Cost, Limits, Training
from layerlens_core.values.decisions import Certificate, Decision
from layerlens_core.values.inventory import Head, Inventory, Layer, LinearModule
from layerlens_core.values.plan import Plan
from layerlens_core.values.request import DEFAULT_SCALE, Request


def module(name, in_features=4, out_features=8):
    layer = name.partition(".")[0]
    return LinearModule(name=name, layer=layer, kind="linear", in_features=in_features, out_features=out_features)


def inventory(*modules, heads=(), architecture="Toy", model_type="toy"):
    layers = tuple(Layer(name=each.layer, modules=(each,)) for each in modules)
    return Inventory(
        architecture=architecture, model_type=model_type, parameters=1_000, layers=layers, heads=tuple(heads)
    )


PLANNED = inventory(module("L0.w"), module("L1.w"), heads=[Head(name="score", parameters=1_234)])


@pytest.fixture
def plan():
    cost = Cost(params=24, flops=48.0, memory=96.0)
    return Plan(
        profile="0" * 64,
        architecture=PLANNED.architecture,
        fingerprint=PLANNED.fingerprint,
        shapes=PLANNED.shapes,
        task="causal-lm",
        request=Request(
            strategy="budget",
            budget=("params=100",),
            weights={"fisher": 1.0},
            methods=("none", "lora"),
            options={"exact": "1"},
            penalties={"lora": 1.5},
            training=Training(batch=1, dtype="bfloat16"),
        ),
        limits=Limits(params=100),
        cost=cost,
        decisions=(
            Decision(unit="L0", method="none", size=0, sizes={}, utility=0.25, cost=Cost(), reason="too dear"),
            Decision(
                unit="L1", method="lora", size=2, sizes={"L1.w": 2}, utility=0.75, cost=cost, reason="best",
                runner_up="none", margin=-0.5,
            ),
        ),
        certificate=Certificate(value=0.5, bound=0.625),
        heads=PLANNED.heads,
        directions="0" * 64,
    )  # fmt: skip


def test_a_plan_sums_up_what_it_trains(plan):
    assert (plan.parameters, plan.limit, plan.head_parameters, plan.scale) == (24, 100, 1_234, DEFAULT_SCALE)
    assert plan.certificate.gap == pytest.approx(0.2)


def test_sizes_are_those_of_one_method_without_the_places_that_got_nothing(plan):
    first, last = plan.decisions
    plan = attrs.evolve(plan, decisions=(first, attrs.evolve(last, sizes={"L1.w": 2, "L1.v": 0})))
    assert plan.sizes("lora") == {"L1.w": 2}
    assert plan.sizes("prefix") == {}


def test_a_plan_survives_its_file_to_the_byte(plan, tmp_path):
    path = plan.save(tmp_path / "run")
    loaded = Plan.load(tmp_path / "run")
    assert loaded == plan
    assert loaded.digest == plan.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    first = path.read_bytes()
    assert loaded.save(tmp_path / "run").read_bytes() == first


def test_the_digest_is_of_the_whole_plan(plan):
    assert attrs.evolve(plan, task="masked-lm").digest != plan.digest
    first, last = plan.decisions
    reworded = attrs.evolve(plan, decisions=(first, attrs.evolve(last, reason="another")))
    assert reworded.digest != plan.digest


def _first(**changes):
    return lambda plan: {"decisions": (attrs.evolve(plan.decisions[0], **changes), plan.decisions[1])}


def _last(**changes):
    return lambda plan: {"decisions": (plan.decisions[0], attrs.evolve(plan.decisions[1], **changes))}


CONTRADICTIONS = [
    (lambda plan: {"cost": plan.cost + Cost(params=1)}, "for 25 trainable parameters, but its decisions are for 24"),
    (lambda plan: {"limits": Limits(params=23)}, "it plans 24 of params, above its own limit of 23"),
    (lambda plan: {"limits": Limits(flops=47.0)}, "it plans 48 of flops, above its own limit of 47"),
    (lambda plan: {"decisions": (plan.decisions[1],) * 2}, "L1 is decided twice"),
    (_first(unit="L1"), "L1 is decided twice"),
    (_first(sizes={"L1.w": 0}), "L1.w is decided twice, in L1 and before"),
    (_last(sizes={"L9.w": 2}), "the decision on L1 gives L9.w a size, which is no place of the planned model"),
    (_last(sizes={"L1.w": -2}), "the decision on L1 has a size below 0"),
    (_last(size=-1), "the decision on L1 has a size below 0"),
    (_last(method="none"), "the decision on L1 is none, with 24 trainable parameters"),
    (_last(cost=Cost(params=24, memory=-1.0)), "the decision on L1 has a cost below 0"),
    (lambda plan: {"request": attrs.evolve(plan.request, scale=0)}, "scale α/r is 0; it must be above 0"),
    (lambda plan: {"request": attrs.evolve(plan.request, weights={"a": -1.0})}, "a of the weights is -1"),
    (lambda plan: {"request": attrs.evolve(plan.request, weights={"a": 0.0})}, "all weights are 0"),
    (lambda plan: {"request": attrs.evolve(plan.request, penalties={"lora": 0.0})}, "the penalty of lora is 0"),
    (lambda plan: {"shapes": {**plan.shapes, "L1.w": {"in_features": 0}}}, "in_features of the place L1.w is 0"),
    (lambda plan: {"limits": Limits(memory=-1.0)}, "above its own limit of -1"),
    (lambda plan: {"directions": "none"}, "directions is no sha256 digest"),
    (lambda plan: {"heads": plan.heads * 2}, "the head score is there twice"),
    (lambda plan: {"certificate": Certificate(value=2.0, bound=1.0)}, "value 2 exceeds its bound 1"),
    (_last(sizes={"L0.w": 2}), "the decision on L1 gives L0.w a size, which lies elsewhere"),
    (_last(sizes={"L1.w": 3}), "but its sizes take 36, as those of L1 take 36"),
    (_last(sizes={}), "the decision on L1 trains 24 parameters at no place"),
    (_first(size=2), "the decision on L0 is none, with a size"),
]


@pytest.mark.parametrize(("change", "said"), CONTRADICTIONS)
def test_a_plan_that_contradicts_itself_is_not_read(plan, tmp_path, change, said):
    plan.check()
    changed = attrs.evolve(plan, **change(plan))
    with pytest.raises(PlanError, match=re.escape(said)):
        changed.check()
    changed.save(tmp_path)
    with pytest.raises(FileError, match=rf"plan\.json was changed or damaged: .*{re.escape(said)}"):
        Plan.load(tmp_path)


def test_a_utility_that_is_no_number_is_refused(plan):
    first, last = plan.decisions
    with pytest.raises(PlanError, match="the decision on L0 has a utility of nan"):
        attrs.evolve(plan, decisions=(attrs.evolve(first, utility=math.nan), last)).check()
    with pytest.raises(PlanError, match="the decision on L0 has a margin of inf"):
        attrs.evolve(plan, decisions=(attrs.evolve(first, margin=math.inf), last)).check()


def test_a_plan_with_a_field_that_nobody_knows_is_damaged(plan, tmp_path):
    path = plan.save(tmp_path)
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "surprise": 1}))
    with pytest.raises(FileError, match=r"plan\.json is damaged: extra fields found \(surprise\)"):
        Plan.load(tmp_path)


def test_the_planned_model_differs_in_nothing(plan):
    assert plan.difference(PLANNED) is None


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (inventory(module("L0.w")), "it has no module L1.w (1 planned modules are missing)"),
        (
            inventory(module("L0.w", in_features=5), module("L1.w")),
            "L0.w is of in features 5, out features 8 where planned was in features 4, out features 8 (1 modules",
        ),
        (
            inventory(module("L0.w"), module("L1.w"), module("L2.w")),
            "it has L2.w, which was not there (1 modules",
        ),
        (inventory(module("L0.w"), module("L1.w")), "its heads are none, planned were score of 1,234 parameters"),
        (
            inventory(module("L0.w"), module("L1.w"), heads=PLANNED.heads, model_type="other"),
            "its modules are the same, but it is of another kind, or they are in another order",
        ),
        (
            inventory(module("L1.w"), module("L0.w"), heads=PLANNED.heads),
            "its modules are the same, but it is of another kind, or they are in another order",
        ),
    ],
)
def test_another_model_is_told_by_what_differs(plan, other, said):
    message = plan.difference(attrs.evolve(other, architecture="Another"))
    assert message.startswith("the plan is for another model: Toy, but this is Another; ")
    assert said in message
