"""A layer is found by its full name, by an ending that is its own, or by its number in the plan."""

import pytest

from layerlens_core.allocation.allocate import plan_for
from layerlens_core.allocation.explanation import explain, find_layer
from layerlens_core.demo.scenarios import profile_of
from layerlens_core.errors import FileError, PlanError
from layerlens_core.tracing import to_file
from layerlens_core.values.request import Request

PROFILE = profile_of([float(i + 1) for i in range(12)])
REQUEST = Request(strategy="threshold", budget=("params=r=4",))


@pytest.fixture(scope="module")
def plan():
    return plan_for(PROFILE, REQUEST)


@pytest.mark.parametrize(
    ("text", "number"), [("bert.encoder.layer.3", 3), ("layer.11", 11), ("7", 7), ("encoder.layer.0", 0)]
)
def test_a_layer_is_found(plan, text, number):
    assert find_layer(plan, text) == f"bert.encoder.layer.{number}"


@pytest.mark.parametrize("text", ["12", "layer", "bert.encoder.layer.12", "-1", ""])
def test_a_layer_that_is_not_there_is_answered_with_those_that_are(plan, text):
    with pytest.raises(PlanError, match=r"bert\.encoder\.layer\.0 to bert\.encoder\.layer\.11 \(0 to 11\)"):
        find_layer(plan, text)


def test_an_explanation_is_read_from_the_trace_that_the_plan_left(tmp_path):
    with to_file(tmp_path, run_id="abc"):
        plan = plan_for(PROFILE, REQUEST)
    plan.save(tmp_path)
    PROFILE.save(tmp_path)
    made = explain(tmp_path, "11")
    decided = plan.decisions[11]
    assert made.layer == decided.unit == made.decision["unit"]
    assert (made.decision["method"], made.decision["size"]) == (decided.method, decided.size)
    assert made.utility["utility"] == decided.utility
    assert made.thresholds["methods"] == list(plan.request.methods)
    assert made.budget["limits"] == {"params": plan.limit}
    assert made.budget["spent"]["params"] == plan.parameters


def test_the_trace_of_another_plan_is_refused(tmp_path):
    with to_file(tmp_path, run_id="abc"):
        plan_for(PROFILE, Request(strategy="threshold", budget=("params=r=2",)))
    plan_for(PROFILE, REQUEST).save(tmp_path)
    PROFILE.save(tmp_path)
    with pytest.raises(FileError, match=r"is not the trace of .*plan\.json; plan anew with"):
        explain(tmp_path, "11")


def test_a_plan_of_this_process_is_explained_beside_its_profile(tmp_path):
    from layerlens_core.allocation.allocate import allocate

    planned = allocate(PROFILE, strategy="threshold", budget="params=r=4")
    made = explain(planned, 11, profile=PROFILE)
    assert made.decision["method"] == planned.decisions[11].method
    assert made.utility is not None
    assert {each.module: each.size for each in made.sizing} == dict(planned.decisions[11].sizes)
    assert all(each.alpha == 2 * each.size for each in made.sizing)
    assert sum(each.parameters for each in made.sizing) == planned.decisions[11].parameters
    assert f"{made.sizing[0].module}: {made.sizing[0].size} (α {made.sizing[0].alpha})" in str(made)
    # A run that Python saved has no trace, and is explained all the same, alike.
    PROFILE.save(tmp_path)
    planned.save(tmp_path)
    assert str(explain(tmp_path, "11")) == str(made)
    with pytest.raises(PlanError, match="does not hold its profile"):
        explain(planned, 11)


def test_a_plan_that_does_not_follow_from_its_profile_is_not_explained(tmp_path):
    import attrs

    from layerlens_core.allocation.allocate import allocate

    planned = allocate(PROFILE, strategy="uniform", budget="params=r=4")
    other = attrs.evolve(planned, request=attrs.evolve(planned.request, budget=("params=r=3",)))
    with pytest.raises(PlanError, match=r"does not follow from its profile.*layer\.0 would be decided otherwise"):
        explain(other, 0, profile=PROFILE)


def test_the_step_that_does_not_fit_is_said():
    from layerlens_core.allocation.allocate import allocate

    planned = allocate(PROFILE, strategy="uniform", budget="params=r=4")
    made = explain(planned, 0, profile=PROFILE)
    step = min(each.step for each in made.sizing)
    assert f"the cheapest step more takes {step:,} parameters, and the plan leaves 0: none fits" in made.bounds
