"""Budgets, names, weights and thresholds that cannot be used are refused before they cost anything."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Model = Callable[[str], str]
Data = Callable[[str], str]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("budgets", "said"),
    [
        (["params=abc"], "budget params='abc' cannot be read; write a count (50k), a share of the model (0.5%)"),
        (["flops=2GiB"], "budget flops='2GiB' cannot be read; write a count a token (2.5G), a share of full fine-"),
        (["memory=r=8x"], "budget memory='r=8x' cannot be read; write bytes (24GiB), a share of full fine-tuning's"),
        (["memory=r=0"], "budget memory=r=0 leaves nothing to train; give a rank above 0, such as r=0.25"),
        (["latency=50%"], "budget latency='50%' cannot be read; write a time a forward pass (2ms)"),
        (["params=-5"], "budget params='-5' cannot be read"),
        (["params=101%"], "not above 0% and at most 100%"),
        (["params=0"], "leaves nothing to train"),
        (["params=r=0"], "give a rank above 0, such as r=0.25"),
        (["50k"], "not of the form KIND=AMOUNT, such as params=50k"),
        (["params="], "not of the form KIND=AMOUNT"),
        (["r=8"], "budget 'r=8' is not of the form KIND=AMOUNT, such as params=r=8"),
        (["memory=24"], "budget memory=24 is 24 bytes; write a unit, such as memory=24GiB"),
        (["parms=50k"], "no budget is of kind 'parms'; there are: params, flops, memory, latency."),
        (["parms=50k"], "Did you mean 'params'?"),
        (["params=1k", "params=2k"], "two budgets of kind 'params': '1k' and '2k'; give one"),
    ],
)
def test_budgets_that_cannot_be_read_are_refused(
    layerlens: Any, model: Model, data: Data, out: Path, budgets: list[str], said: str
) -> None:
    options = [word for budget in budgets for word in ("--budget", budget)]
    message = layerlens.refused("plan", model("bert"), "--data", data("text"), *options, "--out", out, out=out)
    assert said in message


def test_a_budget_below_the_cheapest_candidate_names_its_price(
    layerlens: Any, model: Model, data: Data, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_args: object, **_options: object) -> None:
        raise AssertionError("the model was profiled for a budget that cannot work")

    monkeypatch.setattr("layerlens_core.profiling.profile.measure", never)
    arguments = ("plan", model("bert"), "--data", data("text"), "--budget", "params=207")
    message = layerlens.refused(*arguments, "--out", out, out=out)
    assert "allows 207 trainable parameters, but the cheapest candidate, lora of size 1, takes 208" in message
    assert "give at least params=208" in message


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--metric", "fischer"], "no metric is named 'fischer'; there are: "),
        (["--metric", "fischer"], "Did you mean 'fisher'?"),
        (["--strategy", "treshold"], "Did you mean 'threshold'?"),
        (["--methods", "loar,none"], "Did you mean 'lora'?"),
        (["--normalizer", "shares"], "no normalizer is named 'shares'; there are: share, max, rank, zscore, log. Did"),
        (["--aggregator", "weighted-men"], "Did you mean 'weighted-mean'?"),
        (["--methods", "none"], "name at least one that trains something, such as lora"),
        (
            ["--strategy", "threshold", "--set", "quantile=0.5"],
            "has no option 'quantile'; it takes: thresholds, quantiles. Did you mean 'quantil",
        ),
        (["--set", "quantiles"], "--set 'quantiles' is not of the form NAME=VALUE"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest_one(
    layerlens: Any, model: Model, data: Data, out: Path, options: list[str], said: str
) -> None:
    message = layerlens.refused("plan", model("bert"), "--data", data("text"), *options, "--out", out, out=out)
    assert said in message


@pytest.mark.parametrize(
    "options",
    [
        ["--metric", "fischer"],
        ["--strategy", "treshold"],
        ["--methods", "loar"],
        ["--normalizer", "shares"],
        ["--aggregator", "weighted-men"],
        ["--budget", "params=abc"],
        pytest.param(["--device", "toaster"], marks=pytest.mark.torch),  # which knows devices
    ],
)
def test_a_typing_error_does_not_cost_the_loading_of_the_model(
    layerlens: Any, data: Data, out: Path, options: list[str]
) -> None:
    message = layerlens.refused("plan", "somebody/nowhere", "--data", data("text"), *options, "--out", out, out=out)
    assert "nowhere" not in message


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        (["fisher=1", "fisher=2"], "metric 'fisher' is given twice"),
        (["fisher=-1"], "the weight of fisher is -1; weights are numbers, finite and at least 0"),
        (["fisher=nan"], "the weight of fisher is nan"),
        (["fisher=0", "weight_gradient=0"], "all weights are 0 (fisher, weight_gradient)"),
        (["fisher=much"], "--metric 'fisher=much' is not of the form NAME=WEIGHT"),
    ],
)
def test_weights_that_cannot_be_used_are_refused(
    layerlens: Any, model: Model, data: Data, out: Path, metrics: list[str], said: str
) -> None:
    options = [word for metric in metrics for word in ("--metric", metric)]
    message = layerlens.refused("plan", model("bert"), "--data", data("text"), *options, "--out", out, out=out)
    assert said in message


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--thresholds", "0.1,0.2"], "2 methods (none < lora) need 1 "),
        (["--methods", "lora,prefix", "--thresholds", "0.2,0.1"], "must ascend from none to lora: 0.2,0.1"),
        (["--thresholds", "low"], "thresholds must be numbers separated by commas, but are 'low'"),
        (["--quantiles", "1.5"], "quantiles lie between 0 and 1"),
        (["--quantiles", "0.5", "--thresholds", "0.5"], "give thresholds or quantiles, not both"),
    ],
)
def test_thresholds_that_do_not_fit_the_methods_are_refused(
    layerlens: Any, model: Model, data: Data, out: Path, options: list[str], said: str
) -> None:
    message = layerlens.refused("plan", model("bert"), "--data", data("text"), *options, "--out", out, out=out)
    assert said in message


def test_a_seed_that_no_generator_takes_is_refused(layerlens: Any, model: Model, data: Data, out: Path) -> None:
    message = layerlens.refused("plan", model("bert"), "--data", data("text"), "--seed", 10**20, "--out", out, out=out)
    assert "Invalid value for '--seed'" in message
