"""Where memory freezes layers, the step that would freeze none is said, and it is the largest: plans of it are made."""

import re

import attrs
import pytest
from hypothesis import assume, event, given
from hypothesis import strategies as st

from bert_profile import bert_profile
from comparison.arms.random_profiles import profiles
from layerlens_core.allocation.allocate import allocate
from layerlens_core.allocation.notes.smaller_batch import least_cost
from layerlens_core.allocation.problem import pose
from layerlens_core.errors import BudgetError, PlanError
from layerlens_core.values.costs import Activations, Training
from layerlens_core.values.request import Request

SAID = re.compile(r"with ([\d,]+) samples? a step instead of ([\d,]+) \(--batch-size (\d+)")
NOT_EVEN_ONE = "even one sample a step leaves too little"
STEP = Training(batch=32, length=64)


def profile(layers=8, a_layer=3000.0):
    """A BERT on paper whose layers keep so many bytes a token."""
    found = bert_profile([1.0] * layers)
    names = [layer.name for layer in found.inventory.layers]
    kept = Activations(through=dict.fromkeys(names, a_layer), adapted=dict.fromkeys(names, 100.0), head=10.0)
    return attrs.evolve(found, activations=kept)


def plan(of, budget, *, batch=32, **more):
    return allocate(of, budget=budget, training=attrs.evolve(STEP, batch=batch), margins=False, **more)


def frozen(planned):
    return sum(decision.method == "none" for decision in planned.decisions)


def said(planned):
    """The samples that a plan names, 0 where it says that one is too many, None where it says nothing."""
    if any(NOT_EVEN_ONE in note for note in planned.notes):
        return 0
    found = [match for note in planned.notes if (match := SAID.search(note))]
    assert len(found) <= 1
    if found:
        assert found[0][1].replace(",", "") == found[0][3]
    return int(found[0][3]) if found else None


@pytest.mark.slow
@given(
    of=profiles(), batch=st.integers(1, 40), strategy=st.sampled_from(["tempered", "uniform", "threshold", "budget"]),
    share=st.floats(0.0, 1.1),
)  # fmt: skip
def test_the_step_that_is_named_freezes_nothing_and_one_sample_more_does(of, batch, strategy, share):
    problem = pose(of, Request(strategy=strategy, budget=(), training=attrs.evolve(STEP, batch=batch)))
    lowest = problem.candidates.base(None).memory
    budget = f"memory={lowest + share * (least_cost(problem, of, batch).memory - lowest):.0f}B"
    try:
        planned = plan(of, budget, batch=batch, strategy=strategy)
    except BudgetError:
        assume(False)
    samples = said(planned)
    event("nothing said" if samples is None else "not even one" if samples == 0 else "a smaller step")
    assert (samples is None) == (frozen(planned) == 0)
    if samples is None:
        return
    assert samples < batch
    if samples:
        assert frozen(plan(of, budget, batch=samples, strategy=strategy)) == 0
    assert frozen(plan(of, budget, batch=samples + 1, strategy=strategy)) > 0


@given(of=profiles(), batch=st.integers(1, 40), samples=st.integers(1, 40), methods=st.sampled_from(
    ["lora", "adapter", "prefix,lora"]))  # fmt: skip
def test_the_least_cost_is_that_of_the_problem_posed_anew(of, batch, samples, methods):
    names = tuple(methods.split(","))
    request = Request(strategy="uniform", budget=(), methods=names, training=attrs.evolve(STEP, batch=batch))
    try:
        problem = pose(of, request)
    except PlanError:  # no layer has attention, where prefixes could attach
        assume(False)
    anew = pose(of, attrs.evolve(request, training=attrs.evolve(STEP, batch=samples))).candidates
    smallest = []
    for unit in anew.units:
        for name in reversed(anew.methods):  # in ascending capacity
            if sizes := unit.sizes(name):
                smallest.append(unit.decide(name, sizes[0], reason="the smallest"))
                break
    expected, found = anew.total(smallest), least_cost(problem, of, samples)
    assert attrs.astuple(found) == pytest.approx(attrs.astuple(expected))


def test_it_is_said_beside_the_price_of_freezing_in_words():
    of = profile()
    whole = plan(of, "params=r=8")
    planned = plan(of, [f"memory={int(0.7 * whole.cost.memory)}B", "params=r=8"])
    assert 0 < frozen(planned) < 8
    at = next(at for at, note in enumerate(planned.notes) if SAID.search(note))
    assert "layers stay frozen, which costs" in planned.notes[at - 1]
    samples = said(planned)
    assert planned.notes[at] == (
        f"with {samples} samples a step instead of 32 (--batch-size {samples}, gradients accumulated to the same "
        f"batch) no layer would have to be frozen within {0.7 * whole.cost.memory / 2**20:.1f} MiB of memory"
    )


def test_a_bound_that_follows_the_step_is_named_in_bytes():
    of = profile(a_layer=3e5)
    planned = plan(of, "memory=60%")
    samples = said(planned)
    assert samples
    note = next(note for note in planned.notes if SAID.search(note))
    fixed = re.search(r"--budget (memory=\d+MiB)", note)[1]
    assert frozen(plan(of, "memory=60%", batch=samples)) > 0  # the bound has become smaller with the step
    assert frozen(plan(of, fixed, batch=samples)) == 0
    assert "--budget" not in next(note for note in plan(of, fixed).notes if SAID.search(note))


def test_where_other_bounds_freeze_too_nothing_is_said():
    of = profile()
    whole = plan(of, "params=r=8")
    memory = f"memory={int(0.7 * whole.cost.memory)}B"
    tight = f"flops={0.8 * whole.cost.flops:.0f}"
    for budget in ([memory, tight], [tight], [memory, "params=2000"]):
        planned = plan(of, budget)
        assert frozen(planned) > 0
        assert said(planned) is None
    assert said(plan(of, [memory, f"flops={whole.cost.flops:.0f}"])) > 0


def test_what_a_strategy_freezes_by_itself_is_not_put_down_to_memory():
    planned = plan(profile(), "memory=1TiB", strategy="threshold", options={"thresholds": "1e9"}, methods="lora")
    assert frozen(planned) == 8
    assert said(planned) is None


def test_what_takes_more_flops_in_smaller_steps_is_held_to_its_bound_there(monkeypatch):
    from layerlens_core.allocation.notes import smaller_batch

    of = profile()
    whole = plan(of, "params=r=8")
    budget = [f"memory={int(0.7 * whole.cost.memory)}B", f"flops={whole.cost.flops:.0f}"]
    real = smaller_batch.least_cost

    def by_pass(problem, of, samples):
        cost = real(problem, of, samples)
        return attrs.evolve(cost, flops=cost.flops * (1 if samples == 32 else 2))

    monkeypatch.setattr(smaller_batch, "least_cost", by_pass)
    planned = plan(of, budget)
    assert frozen(planned) > 0
    assert said(planned) is None


def test_one_sample_may_be_too_many():
    of = profile(a_layer=3e5)
    base = pose(of, Request(strategy="uniform", budget=(), training=attrs.evolve(STEP, batch=1))).candidates
    budget = f"memory={(base.base(0).memory + base.base(None).memory) / 2:.0f}B"
    planned = plan(of, budget, batch=1)
    assert frozen(planned) > 0
    assert said(planned) == 0
