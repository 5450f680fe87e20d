"""Data files that were changed at random are read, or refused by LayerLens's own errors; never anything else."""

import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers

from layerlens_core.data.draw import Draw, survey
from layerlens_core.data.encode import Encoder
from layerlens_core.data.rows import open_rows
from layerlens_core.data.target import KnownHead, decide
from layerlens_core.errors import LayerLensError

Make = Callable[..., transformers.PreTrainedTokenizerFast]

ROWS: dict[str, list[dict[str, Any]]] = {
    "text": [{"text": f"w{i} w2 w3", "id": i} for i in range(6)],
    "classes": [{"text": f"w{i} w2", "label": i % 3 - 1} for i in range(9)],
    "names": [{"text": f"w{i} w2", "label": ["a", "b", None][i % 3]} for i in range(6)],
    "numbers": [{"text": f"w{i} w2", "label": i / 4} for i in range(6)],
    "several": [{"text": f"w{i} w2", "label": [i % 2, 1, 0]} for i in range(6)],
    "lists": [{"text": f"w{i} w2", "label": ["a", "b"][: i % 3]} for i in range(6)],
    "pairs": [{"prompt": f"w{i}", "completion": "w2 w3"} for i in range(5)],
    "words": [{"tokens": ["w1", "w2"], "ner_tags": [i % 2, 1]} for i in range(5)],
    "messages": [
        {"messages": [{"role": "user", "content": f"w{i}"}, {"role": "assistant", "content": "w2"}]} for i in range(4)
    ],
}
TASKS: dict[str, Any] = {"text-label": "sequence-classification", "words-tags": "token-classification"}
TOKENS = (
    b"null", b"NaN", b"Infinity", b"1e999", b"true", b"-1", b"[]", b"{}", b'""', b'"', b",", b"\n", b"\r", b"\0",
    b"[[1]]", b"\\ud83d", b"\xff", b"\xef\xbb\xbf", b"\xc2", b"9" * 400, b'{"a": [1]}', b"[" * 50, b"\\u0000",
    b"\\u001b[2J", b":", b" ", b"0.5",
)  # fmt: skip


def written(path: Path, rows: list[dict[str, Any]]) -> bytes:
    if path.suffix == ".parquet":
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif path.suffix == ".csv":
        lines = [",".join(rows[0])]
        lines += [",".join('"' + str(value).replace('"', '""') + '"' for value in row.values()) for row in rows]
        path.write_text("\n".join(lines) + "\n")
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path.read_bytes()


def mutated(content: bytes, draw: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(draw.choice([1, 1, 2, 5])):
        start = draw.randrange(len(changed) + 1)
        kind = draw.randrange(4)
        if kind == 0 and changed:
            changed[min(start, len(changed) - 1)] ^= 1 << draw.randrange(8)
        elif kind == 1:
            del changed[start : start + draw.randrange(1, 9)]
        elif kind == 2:
            changed[start : start + draw.choice([0, 1, 3])] = draw.choice(TOKENS)
        else:
            changed[start:start] = changed[draw.randrange(len(changed) + 1) :][: draw.randrange(60)]
    return bytes(changed)


def used(path: Path, tokenizer: Any) -> None:
    rows = open_rows(path)
    found = survey(rows)
    task = TASKS.get(found.fields.form, "causal-lm")
    head = KnownHead(names=("a", "b"), trained=True)
    target = None if found.labels is None else decide(found.labels, head)
    encoder = Encoder(fields=found.fields, tokenizer=tokenizer, task=task, target=target, max_length=8)
    for sample in Draw(rows=rows, survey=found, encoder=encoder, seed=0, most=50):
        label = sample["labels"]
        if target is not None and target.problem == "single_label_classification":
            assert int(label.max()) < len(target.names)
        if target is not None and target.problem == "multi_label_classification":
            assert label.shape == (len(target.names),)


def check_used_or_refused(path: Path, made: Any, turn: int) -> None:
    said = ""
    try:
        used(path, made)
    except LayerLensError as error:
        said = str(error)
    assert said.isprintable(), turn  # one line, and nothing that moves a terminal's cursor
    assert len(said) < 600, turn


@pytest.mark.parametrize("form", ROWS)
@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_changed_files_are_read_or_refused(tokenizer: Make, tmp_path: Path, form: str, suffix: str) -> None:
    made = tokenizer(chat_template="{% for m in messages %}{{ m.role }} {{ m.content }} {% endfor %}")
    path = tmp_path / f"rows{suffix}"
    content = written(path, ROWS[form])
    draw = random.Random(f"{form}{suffix}")
    if not (suffix == ".csv" and form in ("lists", "words", "messages")):  # which CSV cannot say so
        used(path, made)
    for turn in range(60):
        path.write_bytes(mutated(content, draw))
        check_used_or_refused(path, made, turn)


#: Values that a field may hold by mistake.
ODD: tuple[Any, ...] = (
    None, math.nan, math.inf, True, 0, -1, -100, 7, 10**30, 10**400, 0.5, 1e39, "", " ", "w1", "[0, 1]", "[", "\0",
    "a\nb\x1b[2J", [], [None], [0, 1], [1, 1], [0.5], [[0]], ["a"], [True], {}, {"a": 1}, [{}], "x" * 9999,
    [{"role": "assistant", "content": "w1"}],
)  # fmt: skip


@pytest.mark.parametrize("form", ROWS)
def test_odd_values_are_used_or_refused(tokenizer: Make, tmp_path: Path, form: str) -> None:
    made = tokenizer(chat_template="{% for m in messages %}{{ m.role }} {{ m.content }} {% endfor %}")
    path = tmp_path / "rows.jsonl"
    draw = random.Random(form)
    for turn in range(150):
        rows = [dict(row) for row in ROWS[form]]
        for _ in range(draw.choice([1, 1, 2, 6])):
            row = draw.choice(rows)
            row[draw.choice(list(row))] = draw.choice(ODD)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        check_used_or_refused(path, made, turn)
