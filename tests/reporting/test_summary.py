"""What stands at the top of a page: what to do first, and whether it was measured."""

import attrs
import pytest

from layerlens_core.reporting import making, summary, tables
from layerlens_core.reporting.decisions import flip_of
from layerlens_core.reporting.gather import gather
from layerlens_core.values.costs import Cost
from layerlens_core.values.decisions import Certificate, Decision
from layerlens_core.values.profile import Evidence
from reporting.made import encoder, profile, write_comparison, write_run


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """By what the plan differs from uniform, a run that was compared."""
    known = {}

    def make(effect):
        if effect not in known:
            folder = tmp_path_factory.mktemp("run")
            write_comparison(folder, write_run(folder, profile(encoder(3))), effect=effect)
            known[effect] = gather(folder)
        return known[effect]

    return make


def test_a_plan_that_is_better_is_to_be_trained(compared):
    (line,) = summary.headline(compared(-0.05))
    assert line.startswith("Train this plan at rate 0.01: measured to be better than uniform by ")


@pytest.mark.parametrize(
    ("effect", "said"),
    [(0.0, "This plan: no difference to uniform that this"), (0.05, "This plan: measured to be worse than uniform by")],
)
def test_else_uniform_is(compared, effect, said):
    first, second = summary.headline(compared(effect))
    assert first.startswith("Train uniform at rate 0.01: nothing that was tried is shown to be better")
    assert second.startswith(said)


def test_without_a_comparison_of_this_plan_gains_are_predictions(compared):
    found = compared(-0.05)
    (line,) = summary.headline(attrs.evolve(found, comparison=None))
    assert line.startswith("This plan was not compared with uniform LoRA: all gains below are predictions.")
    (line,) = summary.headline(attrs.evolve(found, earlier=True))
    assert line.startswith("An earlier plan of this run was compared, this one was not: all gains below are predict")
    plan = attrs.evolve(found.plan, abstained="halves disagree")
    (line,) = summary.headline(attrs.evolve(found, comparison=None, plan=plan))
    assert line == "The plan is uniform: it abstained from tempered, as halves disagree."


def test_a_plan_of_another_budget_than_was_compared_gets_what_is_recommended(compared):
    found = compared(-0.05)
    plan = attrs.evolve(found.plan, request=attrs.evolve(found.plan.request, budget=("params=10k",)))
    lines = summary.headline(attrs.evolve(found, plan=plan))
    assert [line[:18] for line in lines] == ["At r=2, train plan", "At r=4, train plan"]


def test_facts_say_what_is_planned(compared):
    found = compared(-0.05)
    told = dict(summary.facts(found))
    assert told["Layers"] == "3, all with lora"
    assert told["Trainable"].startswith(f"{found.plan.parameters:,} parameters of {found.plan.limit:,} allowed (")
    assert told["Beside them"] == "294 parameters of the head (classifier), trained in full"
    assert told["Predicted gain"].endswith("(a prediction, no measurement)")
    assert told["Stability"].startswith("fisher 0.88, gora 0.93")
    frozen = attrs.evolve(found.plan.decisions[0], method="none", size=0, sizes={}, cost=Cost())
    plan = attrs.evolve(found.plan, decisions=(frozen, *found.plan.decisions[1:]))
    plan = attrs.evolve(plan, certificate=Certificate(value=0.5, bound=1.0))
    told = dict(summary.facts(attrs.evolve(found, plan=plan)))
    assert told["Layers"] == "3, 2 with lora, 1 frozen"
    assert told["Certificate"] == "gain 0.5000 of at most 1.0000: at most 0.5 below the best plan"


def test_notes_hold_doubts_evidence_and_what_is_lacking(compared):
    found = compared(-0.05)
    shaky = attrs.evolve(
        found.profile,
        stability={"gora": 0.1, "fisher": 0.9},
        evidence=Evidence(advantage=0.1, error=0.02, samples=24, p=0.2, by="likelihood"),
    )
    told = summary.notes(attrs.evolve(found, profile=shaky, lacking=("no trace",)))
    assert any(line.startswith("warning: gora: halves of the samples hardly rank") for line in told)
    assert any(line.startswith("labels: the model finds own answers likelier") for line in told)
    assert told[-1] == "no trace"
    assert not any(line.startswith("halves of the") for line in told)


def test_what_would_flip_a_decision():
    plain = {"unit": "a", "method": "lora", "size": 4, "utility": 0.2, "cost": Cost(params=1), "reason": "so"}
    near = Decision(**plain, runner_up="adapter of size 8", margin=-0.05)
    assert flip_of(near) == "would be adapter of size 8, if its utility were 0.15 (−25%)"
    assert flip_of(Decision(**plain)) == ""
    assert flip_of(Decision(**plain), tried=True).startswith("no utility from a 16th of its own to 16 times as much")
    assert flip_of(Decision(**plain, runner_up="none")) == "the runner-up is none"


def test_tables_have_as_many_cells_as_headings(compared):
    found = compared(-0.05)
    for table in (
        tables.budget(found), tables.metrics(found), tables.scores(found), tables.decisions(found),
        tables.arms(found.verdict), tables.columns(found, []),
    ):  # fmt: skip
        assert {len(row) for row in table.rows} <= {len(table.headings)}
        assert table.numeric | table.wide <= set(range(len(table.headings)))
    marked = [tables.arms(found.verdict).rows[n][0] for n in tables.arms(found.verdict).marked]
    assert sorted(marked) == ["plan r=2", "plan r=4"]


def test_origins_name_all_that_numbers_depend_on(compared):
    found = compared(-0.05)
    told = {title: dict(rows) for title, rows in making.making(found)}
    assert told["What was asked"]["budget"] == "params=r=4"
    assert told["The recipe"]["learning_rate"] == "0.01"
    assert told["The command: layerlens plan"]["data"] == "made.jsonl"
    assert told["Versions"]["layerlens"] == found.profile.versions["layerlens"]
    assert "builtin" in told["Versions"]["plugins"]
    assert told["Digests"]["plan"] == found.plan.digest
