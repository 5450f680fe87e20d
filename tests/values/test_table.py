"""A plan's rows, and what plans and profiles show of themselves."""

from bert_profile import bert_profile
from layerlens_core.allocation.allocate import allocate
from layerlens_core.values.table import Rows

PROFILE = bert_profile([1, 4, 9] * 8)
PLAN = allocate(PROFILE, budget="params=r=4", abstain=False, margins=False)


def test_a_row_a_layer_with_what_was_decided():
    rows = PLAN.table()
    assert [row["layer"] for row in rows] == [decision.unit for decision in PLAN.decisions]
    assert sum(row["parameters"] for row in rows) == PLAN.parameters
    assert rows[0].keys() == {"layer", "utility", "method", "size", "parameters"}


def test_rows_are_shown_aligned():
    shown = repr(PLAN.table()).splitlines()
    assert len(shown) == 25
    assert shown[0].split() == ["layer", "utility", "method", "size", "parameters"]
    assert len({line.index(method) for line, method in ((each, "lora") for each in shown[1:])}) == 1
    assert str(Rows()) == "(no rows)"


def test_plans_and_profiles_show_themselves_in_a_line():
    assert repr(PLAN) == f"Plan(BertModel, 24 lora; {PLAN.parameters:,} parameters for params=r=4)"
    assert repr(PROFILE) == "Profile(BertModel, masked-lm, 2 samples, 24 layers scored by given)"
