"""How long a warm-up is, from what people write."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerlens_core.errors import DataError
from layerlens_core.profiling.warming.options import WarmUpOptions


@pytest.mark.parametrize(
    ("length", "samples", "steps"),
    [
        ("10%", 7500, 70),  # 3 epochs of 234 batches of 32
        (" 10 %", 7500, 70),
        ("100%", 7500, 702),
        ("0.5%", 128, 1),
        ("70", 128, 70),
        (70, 128, 70),
        (1, 32, 1),
    ],
)
def test_a_share_of_the_run_or_a_number_of_steps(length: Any, samples: int, steps: int) -> None:
    assert WarmUpOptions(length=length).steps_on(samples) == steps


@given(
    percent=st.floats(0.01, 100),
    samples=st.integers(1, 10_000),
    batch=st.integers(1, 64),
    epochs=st.floats(0.1, 10),
)
def test_the_run_is_what_a_comparison_would_train(percent: float, samples: int, batch: int, epochs: float) -> None:
    from layerlens_core.comparison.options import CompareOptions

    options = WarmUpOptions(length=f"{percent}%", batch=batch, epochs=epochs)
    if samples >= batch:
        run = CompareOptions(epochs=epochs, batch=batch).schedule(samples).steps
        assert options.run_on(samples) == run
        assert 1 <= options.steps_on(samples) <= run
        assert abs(options.steps_on(samples) - max(percent / 100 * run, 1)) <= 0.5


@pytest.mark.parametrize(
    ("length", "match"),
    [
        ("0%", "a warm-up of 0% is none; give more than 0 % and at most 100 % of the run"),
        ("-1%", "give more than 0 %"),
        ("100.1%", "at most 100 %"),
        ("inf%", "at most 100 %"),
        ("nan%", "is neither a share of the run, such as 10%, nor a number of steps, such as 70"),
        ("%", "is neither a share"),
        ("a tenth", "a warm-up of a tenth is neither a share"),
        ("7.5", "is neither a share"),
        ("", "is neither a share"),
        (0.1, "is neither a share"),
        (True, "is neither a share"),
        (None, "is neither a share"),
        ([], "is neither a share"),
        ("1" * 400, "is neither a share"),
        ("٣", "is neither a share"),
        ("0", "a warm-up of 0 steps is none; give at least 1"),
        (-3, "a warm-up of -3 steps is none"),
    ],
)
def test_lengths_that_are_none_are_refused_in_a_line(length: Any, match: str) -> None:
    with pytest.raises(DataError, match=match) as caught:
        WarmUpOptions(length=length)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"rank": 0}, {"rank": 2.0}, {"rank": True}, {"batch": 0}, {"batch": "32"}, {"epochs": 0.0},
        {"epochs": math.nan}, {"epochs": "3"}, {"rate": 0.0}, {"rate": -1.0}, {"rate": math.inf}, {"rate": "fast"},
    ],
)  # fmt: skip
def test_numbers_that_train_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"of a warm-up (is a number above 0|are whole numbers from 1 on)"):
        WarmUpOptions(length=1, **wrong)


def test_the_rate_falls_as_the_rank_grows_to_what_was_best() -> None:
    rates = {rank: WarmUpOptions(length=1, rank=rank).learning_rate for rank in (4, 16, 64)}
    assert rates == pytest.approx({4: 2e-2, 16: 1e-2, 64: 5e-3})
    assert WarmUpOptions(length=1, rate=1e-3).learning_rate == 1e-3


def test_somebody_has_to_say_where_to_write() -> None:
    with pytest.raises(DataError, match=r"give run=…, the run's directory, too"):
        WarmUpOptions.of("10%")
    assert WarmUpOptions.of(None) is None
    found = WarmUpOptions.of("10%", "there")
    assert found is not None
    assert str(found.folder) == "there"
    assert WarmUpOptions.of(found, "elsewhere") == found


def test_figures_and_texts_say_what_is_trained() -> None:
    options = WarmUpOptions(length="10%")
    assert options.figures(7500) == (
        "70 steps of 32 of 7,500 samples (10% of a run of 702: 3 epochs), rank 128, rate 0.00354"
    )
    others: tuple[dict[str, Any], ...] = (
        {"length": "11%"}, {"length": 10}, {"rank": 8}, {"rate": 1e-4}, {"batch": 8}, {"epochs": 1.0},
    )  # fmt: skip
    texts = {WarmUpOptions(**{"length": "10%", **changes}).text for changes in ({}, *others)}
    assert len(texts) == 7
    assert WarmUpOptions(length=10, folder="a").text == WarmUpOptions(length="10", folder="b").text


def test_a_share_of_few_samples_says_that_it_is_hardly_a_warm_up() -> None:
    assert "1 step is few" in WarmUpOptions(length="10%").doubt(128)
    assert "give as many --samples as you will train on" in WarmUpOptions(length="10%").doubt(1000)
    assert WarmUpOptions(length="10%").doubt(7500) == ""
    assert WarmUpOptions(length=3).doubt(128) == ""
