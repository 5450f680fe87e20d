"""Rows of text for the tiny models."""

import random
from typing import Any

from word_list import WORDS


def sentence(draw: random.Random, words: int) -> str:
    """So many words that the tiny tokenizer knows."""
    return " ".join(draw.choices(WORDS, k=words))


def rows_of(form: str, count: int = 12) -> list[dict[str, Any]]:
    """Rows of a form, with texts of different lengths."""
    draw = random.Random(1)
    rows: list[dict[str, Any]] = []
    for number in range(count):
        text, other = sentence(draw, 5 + number % 7), sentence(draw, 3 + number % 4)
        rows.append(
            {
                "text": {"text": text},
                "labelled": {"text": text, "label": ("cat", "dog", "bird")[number % 3]},
                "pairs": {"prompt": text, "completion": other},
            }[form]
        )
    return rows
