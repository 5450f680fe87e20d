"""Options that several commands take: what their texts mean, and what is refused."""

import click
import pytest

from layerlens_core.cli.options import (
    AUTO_MOST,
    DECISION_NAMES,
    MicroBatchSize,
    SampleNumber,
    decision_arguments,
    decision_options,
    parse_penalties,
    parse_weights,
)
from layerlens_core.errors import BudgetError, PlanError, ScoreError
from layerlens_core.values.costs import Training

NOTHING = dict.fromkeys(DECISION_NAMES) | {"budgets": (), "settings": (), "penalties": ()}


def test_weights_are_numbers_by_name_and_1_where_none_is_given():
    assert parse_weights(["fisher=0.5", "weight_gradient", "own=1e-3"]) == {
        "fisher": 0.5,
        "weight_gradient": 1.0,
        "own": 0.001,
    }
    for texts in (["fisher", "fisher=2"], ["fisher="], ["fisher=much"]):
        with pytest.raises(ScoreError, match="'fisher"):
            parse_weights(texts)


def test_penalties_are_numbers_by_method_and_none_is_left_out():
    assert parse_penalties(["lora=1", "adapter=1.5"]) == {"lora": 1.0, "adapter": 1.5}
    for texts in (["lora"], ["lora="], ["lora=1", "lora=2"]):
        with pytest.raises(PlanError, match="'lora"):
            parse_penalties(texts)


@pytest.mark.parametrize(
    ("text", "means"), [("7", 7), ("auto", ("auto", AUTO_MOST)), ("auto:64", ("auto", 64)), (128, 128)]
)
def test_a_number_of_samples_may_be_found_automatically(text, means):
    assert SampleNumber().convert(text, None, None) == means


@pytest.mark.parametrize("text", ["0", "-1", "many", "auto:", "auto:0", "automatic", "auto:x"])
def test_what_is_no_number_of_samples_is_refused(text):
    with pytest.raises(click.BadParameter):
        SampleNumber().convert(text, None, None)


def test_a_micro_batch_is_a_number_or_auto():
    assert [MicroBatchSize().convert(text, None, None) for text in ("auto", "3")] == ["auto", 3]
    with pytest.raises(click.BadParameter):
        MicroBatchSize().convert("0", None, None)


def test_what_is_not_given_is_left_to_the_library():
    assert decision_arguments(NOTHING) == {}


def test_what_is_given_becomes_arguments_of_allocate():
    given = NOTHING | {
        "budgets": ("params=50k", "flops=60%"),
        "methods": "none, lora",
        "thresholds": "0.5",
        "settings": ("cost=0.1", "name=a=b"),
        "penalties": ("lora=2",),
        "length": 64,
        "margins": False,
    }
    arguments = decision_arguments(given)
    assert arguments.pop("budget").texts() == ["params=50k", "flops=60%"]
    assert arguments == {
        "strategy": "threshold",
        "methods": ("none", "lora"),
        "options": {"cost": "0.1", "name": "a=b", "thresholds": "0.5"},
        "penalties": {"lora": 2.0},
        "training": Training(length=64),
        "margins": False,
    }


def test_thresholds_imply_their_strategy_unless_another_is_named():
    assert decision_arguments(NOTHING | {"quantiles": "0.1"})["strategy"] == "threshold"
    assert decision_arguments(NOTHING | {"quantiles": "0.1", "strategy": "budget"})["strategy"] == "budget"
    assert decision_arguments(NOTHING | {"granularity": "layer", "abstain": False}) == {
        "granularity": "layer",
        "abstain": False,
    }


def test_of_an_earlier_step_stays_what_is_not_given():
    before = Training(batch=2, length=64, optimizer="lion", dtype="bfloat16")
    arguments = decision_arguments(NOTHING | {"batch_size": 4}, before)
    assert arguments == {"training": Training(batch=4, length=64, optimizer="lion", dtype="bfloat16")}
    assert decision_arguments(NOTHING, before) == {}


@pytest.mark.parametrize(
    ("given", "error"), [({"settings": ("cost",)}, PlanError), ({"budgets": ("50k",)}, BudgetError)]
)
def test_what_cannot_be_read_is_refused(given, error):
    with pytest.raises(error, match="not of the form"):
        decision_arguments(NOTHING | given)


def test_the_names_of_the_options_are_those_that_commands_get():
    command = click.command()(decision_options(lambda **_: None))
    assert {option.name for option in command.params} == set(DECISION_NAMES)
