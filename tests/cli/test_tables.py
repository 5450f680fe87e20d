"""Plans as people read them: sizes, names and what is spent, in words."""

import attrs
import pytest

from layerlens_core.cli.tables import print_plan, print_scenarios, spending
from layerlens_core.demo.scenarios import SCENARIOS, plan_of, profile_of
from layerlens_core.reporting.words import common_prefix, describe_sizes, stability_lines
from layerlens_core.values.costs import Limits
from layerlens_core.values.decisions import Certificate
from layerlens_core.values.inventory import Head


@pytest.mark.parametrize(
    ("names", "prefix"),
    [
        (["model.layers.0", "model.layers.1"], "model.layers."),
        (["encoder.0", "decoder.0"], ""),
        (["a.b.c", "a.b"], "a."),
        (["model.layers.0"], ""),
        ([], ""),
    ],
)
def test_the_common_prefix_ends_at_a_dot(names, prefix):
    assert common_prefix(names) == prefix


@pytest.mark.parametrize(("sizes", "said"), [({}, "–"), ({"a": 2, "b": 2}, "2"), ({"a": 4, "b": 2, "c": 3}, "2–4")])
def test_a_size_is_a_number_or_a_range(sizes, said):
    assert describe_sizes(sizes) == said


@pytest.fixture(scope="module")
def plan():
    return plan_of(SCENARIOS[0], "threshold")


def test_spending_says_what_was_asked_allowed_and_planned(plan):
    first, *rest = spending(plan).splitlines()
    share = f"({plan.parameters / plan.limit:.1%})"
    assert first == f"{plan.parameters:,} trainable parameters planned of {plan.limit:,} allowed by params=r=4 {share}"
    assert rest == list(plan.notes)
    assert rest == ["gain curves of prefix 0.6·n/(n + 2), adapter 0.85·n/(n + 4), lora 1·n/(n + 8): given"]


def test_spending_tells_of_heads_certificates_and_other_limits(plan):
    cost = attrs.evolve(plan.cost, memory=2.0**30)
    more = attrs.evolve(
        plan,
        heads=(Head(name="score", parameters=1_234),),
        certificate=Certificate(value=0.5, bound=0.625),
        limits=Limits(memory=2.0**31),
        cost=cost,
        notes=(),
    )
    first, gain, memory = spending(more).splitlines()
    assert first.endswith("planned; the head (score) adds 1,234")
    assert gain == "predicted gain 0.5000 of at most 0.6250: at most 0.2 from the best plan"
    assert memory == "1.00 GiB of memory planned of 2.00 GiB allowed (50.0%)"
    optimum = attrs.evolve(more, certificate=Certificate(value=0.5, bound=0.5))
    assert "of at most 0.5000: an optimum" in spending(optimum)


def test_numbers_at_the_ends_of_their_ranges_are_shown(plan, capsys):
    for utility in (1.7e308, 5e-324, -1e308):
        decisions = tuple(attrs.evolve(decision, utility=utility) for decision in plan.decisions)
        print_plan(attrs.evolve(plan, decisions=decisions))
    assert capsys.readouterr().out.count("trainable parameters planned") == 3
    assert "allowed by params=r=4" in spending(attrs.evolve(plan, limits=Limits(params=0)))
    assert "allowed by params" in spending(attrs.evolve(plan, request=attrs.evolve(plan.request, budget=())))


def test_how_samples_shared_batches_is_told_where_padding_was_no_way():
    profile = profile_of([1.0] * 12)
    for company, told in (("equal lengths", "only samples of one length"), ("alone", "every sample ran by itself")):
        assert told in stability_lines(attrs.evolve(profile, settings={**profile.settings, "batches": company}))[-1]


def test_stability_is_told_where_it_was_measured():
    profile = attrs.evolve(profile_of([1.0] * 12), samples=64, stability={"fisher": 0.934})
    profile = attrs.evolve(profile, scores=(attrs.evolve(profile.scores[0], metric="fisher"),))
    (unknown,) = stability_lines(attrs.evolve(profile, stability={}))
    assert unknown.startswith("how stable the ranking by fisher is, is not known")
    (line,) = stability_lines(profile)
    assert line.startswith("halves of the 64 samples rank the layers alike: fisher 0.93")
    _, warning = stability_lines(attrs.evolve(profile, stability={"fisher": -0.19}))
    assert warning.startswith("warning: fisher: halves of the samples hardly rank the layers alike (-0.19)")
    assert warning.endswith("profile with more samples, or leave this metric out")
    settings = {"samples_at_most": 256, "settled_from": 0.9}
    for settled, said in ((1, "64 of at most 256, where all"), (0, "all 64, and not all")):
        _, line = stability_lines(attrs.evolve(profile, settings={**settings, "settled": settled}))
        assert line.startswith(f"--samples auto: {said}")
        assert "at least 0.90" in line


def test_scenarios_stand_side_by_side(plan, capsys):
    print_scenarios({"uniform": {"threshold": plan, "other": plan}})
    printed = capsys.readouterr().out
    assert printed.count("uniform") == 1
    assert "threshold" in printed
    assert "other" in printed
    assert f"{plan.parameters:,}" in printed
    assert "l: rank of LoRA" in printed


@pytest.mark.parametrize(("width", "shown", "hidden"), [(120, ["1 ±0.2", "█"], []), (49, ["1 "], ["±", "█"])])
def test_standard_errors_stand_in_the_table_where_they_fit(plan, capsys, monkeypatch, width, shown, hidden):
    monkeypatch.setenv("COLUMNS", str(width))
    profile = profile_of([1.0] * 12)
    (scores,) = profile.scores
    errors = dict.fromkeys(scores.values, 0.2)
    print_plan(plan, attrs.evolve(profile, scores=(attrs.evolve(scores, metric="own", errors=errors),)))
    table = capsys.readouterr().out.split("how stable")[0]
    assert " own " in table
    assert all(text in table for text in shown)
    assert not any(text in table for text in hidden)
