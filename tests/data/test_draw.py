"""Rows are drawn by the seed until there are as many samples as are wanted, and what became of them is told."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import transformers

from layerlens_core.data.draw import Counts, Draw, order, survey
from layerlens_core.data.encode import NO_LABEL, NO_TEXT, Encoder
from layerlens_core.data.fields import Fields
from layerlens_core.data.rows import ListedRows, Row
from layerlens_core.data.target import KnownHead, decide
from layerlens_core.errors import DataError

Make = Callable[..., transformers.PreTrainedTokenizerFast]


def drawing(rows: Any, tokenizer: Any, most: int, *, task: Any = "causal-lm", **options: Any) -> Draw:
    found = survey(rows, task=None if task != "causal-lm" else task)
    target = None if found.labels is None else decide(found.labels, KnownHead())
    encoder = Encoder(fields=found.fields, tokenizer=tokenizer, task=task, target=target, max_length=8)
    return Draw(rows=rows, survey=found, encoder=encoder, seed=0, most=most, **options)


def test_rows_are_drawn_without_replacement_by_the_seed() -> None:
    assert order(10, 0).tolist() == order(10, 0).tolist()
    assert order(100, 0).tolist() != order(100, 1).tolist()
    assert sorted(order(10, 3).tolist()) == list(range(10))


def test_the_first_are_a_draw_of_fewer(tokenizer: Make) -> None:
    rows = ListedRows([{"text": f"w{i} w{i + 1}"} for i in range(40)])
    many = list(drawing(rows, tokenizer(), 30))
    few = list(drawing(rows, tokenizer(), 4))
    assert [sample["input_ids"].tolist() for sample in few] == [s["input_ids"].tolist() for s in many[:4]]
    expected = [int(place) for place in order(40, 0)[:4]]
    assert [sample["input_ids"].tolist() for sample in few] == [
        tokenizer()(f"w{place} w{place + 1}")["input_ids"] for place in expected
    ]


def test_empty_rows_are_replaced_while_there_are_others(tokenizer: Make) -> None:
    rows = ListedRows([{"text": "" if i % 3 else f"w{i} w1"} for i in range(30)])
    draw = drawing(rows, tokenizer(), 8)
    assert len(list(draw)) == 8
    assert draw.counts == Counts(read=30, used=8, left_out={NO_TEXT: 20}, max_length=8)
    assert len(list(drawing(rows, tokenizer(), 20))) == 10


def test_masks_of_a_row_depend_on_its_turn_whatever_is_left_out(tokenizer: Make) -> None:
    texts = [" ".join(f"w{(i + k) % 60}" for k in range(6)) for i in range(40)]
    whole = drawing(ListedRows([{"text": text} for text in texts]), tokenizer(), 40, task="masked-lm")
    by_tokens = {tuple(s["labels"].tolist()) for s in whole}
    # Without the rows that come first in the draw, the others are masked as before.
    first = set(order(40, 0)[:5].tolist())
    rest = ListedRows([{"text": "" if place in first else text} for place, text in enumerate(texts)])
    found = {tuple(s["labels"].tolist()) for s in drawing(rest, tokenizer(), 40, task="masked-lm")}
    assert found < by_tokens


def test_what_became_of_the_rows_is_told(tokenizer: Make) -> None:
    long = " ".join(["w1"] * 20)
    rows: list[Row] = [{"text": long, "label": 0}, {"text": "w1", "label": 1}, {"text": "w1", "label": 1}]
    rows += [{"text": "", "label": 1}, {"text": "w2", "label": -1}, {"text": "w2", "label": None}]
    draw = drawing(ListedRows(rows), tokenizer(), 9, task="sequence-classification")
    assert sorted(int(sample["labels"]) for sample in draw) == [0, 1, 1]
    assert str(draw.counts) == (
        "6 rows read, 3 used; 1 of them cut to 8 tokens; 1 of them repeats an earlier one; "
        f"left out: 1 {NO_TEXT}, 1 {NO_LABEL}, 1 {NO_LABEL} (-1 or -100)"
    )


def test_minus_one_is_a_label_where_it_marks_nothing(tokenizer: Make) -> None:
    rows = ListedRows([{"text": f"w{i}", "label": (-2, -1, 0)[i % 3]} for i in range(9)])
    draw = drawing(rows, tokenizer(), 9, task="sequence-classification")
    assert sorted(int(sample["labels"]) for sample in draw) == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_where_no_row_gives_a_sample_the_reasons_are_told(tokenizer: Make) -> None:
    rows = ListedRows([{"text": ""}, {"text": " "}, {"text": "w1"}])
    said = "no row gives a sample: of 3 rows 1 too short to predict a token, 2 with an empty text"
    with pytest.raises(DataError, match=said):
        list(drawing(rows, tokenizer(), 2))


class Counting:
    """Rows that count how often each was asked for."""

    typed = True

    def __init__(self, rows: list[Row]) -> None:
        self.rows, self.picked = rows, 0

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def pick(self, places: Any) -> dict[int, Row]:
        self.picked += len(places)
        return {place: self.rows[place] for place in places}


def test_a_lazy_draw_reads_little_more_than_is_asked_for(tokenizer: Make) -> None:
    rows = Counting([{"text": f"w{i % 60} w1"} for i in range(5000)])
    draw = drawing(rows, tokenizer(), 4096, lazily=True)
    samples = [sample for sample, _ in zip(draw, range(64), strict=False)]
    assert len(samples) == 64
    assert rows.picked < 256
    assert torch.equal(samples[0]["input_ids"], next(iter(drawing(rows, tokenizer(), 1)))["input_ids"])


# ------------------------------------------------------------------------------------------- the survey


def test_all_rows_are_looked_at_once() -> None:
    found = survey(ListedRows([{"text": "a", "label": i % 3} for i in range(200)]))
    assert found.fields == Fields(form="text-label")
    assert found.count == 200
    assert found.labels is not None
    assert found.labels.wholes == {0, 1, 2}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "somewhere holds no rows"),
        (
            [{"text": "a", "label": 1}] * 99 + [{"text": "a", "label": "x"}],
            "row 100: field 'label' holds str x, but int",
        ),
        ([{"tokens": ["a"], "tags": [1]}, {"tokens": ["a"], "tags": []}], "row 2: field 'tokens' holds 1 words and"),
        ([{"tokens": ["a"], "tags": [[1]]}], "row 1: field 'tags' holds a list of lists, not of tags"),
    ],
)
def test_what_is_odd_in_any_row_is_named(rows: list[Row], said: str) -> None:
    with pytest.raises(DataError, match=said):
        survey(ListedRows(rows), name="somewhere")
