"""What the rows hold follows from their fields, or from the options that name them."""

from typing import Any

import pytest

from layerlens_core.data.fields import Fields, Named, find_fields
from layerlens_core.errors import DataError


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"text": "x"}, Fields(form="text")),
        ({"id": 1, "sentence": "x"}, Fields(form="text", text="sentence")),
        ({"text": "x", "label": 1}, Fields(form="text-label")),
        ({"utterance": "x", "intent": "a"}, Fields(form="text-label", text="utterance", label="intent")),
        ({"content": "x", "target": "a"}, Fields(form="text-label", text="content", label="target")),
        ({"prompt": "x", "completion": "y"}, Fields(form="prompt-completion")),
        ({"messages": [], "id": 1}, Fields(form="messages")),
        ({"messages": [], "prompt": "x", "completion": "y"}, Fields(form="messages")),
        ({"text": "x", "sentence": "y"}, Fields(form="text", text="text")),
        ({"question": "x", "answer": "y"}, Fields(form="prompt-completion", prompt="question", completion="answer")),
        ({"question": "x", "answer": True, "text": "z"}, Fields(form="text")),
        (
            {"instruction": "x", "input": "i", "output": "y", "text": "all of it"},
            Fields(form="prompt-completion", prompt="instruction", completion="output", context="input"),
        ),
        (
            {"instruction": "x", "output": "y"},
            Fields(form="prompt-completion", prompt="instruction", completion="output"),
        ),
        ({"query": "x", "response": "y"}, Fields(form="prompt-completion", prompt="query", completion="response")),
        ({"input": "x", "output": "y"}, Fields(form="prompt-completion", prompt="input", completion="output")),
        ({"prompt": [], "completion": []}, Fields(form="prompt-completion")),
        ({"conversations": [], "id": 1}, Fields(form="messages", messages="conversations")),
        ({"conversations": "none", "text": "x"}, Fields(form="text")),
    ],
)
def test_forms_are_found_by_the_fields(row: dict[str, Any], expected: Fields) -> None:
    assert find_fields([row]) == expected


def test_names_that_are_given_win() -> None:
    row = {"text": "x", "body": "y", "label": 1, "kind": 2, "prompt": "p", "completion": "c", "messages": []}
    assert find_fields([row], Named(text="body")) == Fields(form="text-label", text="body", label="label")
    assert find_fields([row], Named(text="body", label="kind")) == Fields(form="text-label", text="body", label="kind")
    assert find_fields([row], Named(label="kind")) == Fields(form="text-label", text="text", label="kind")


def test_prompts_completions_and_messages_may_be_named() -> None:
    row = {"text": "x", "label": 1, "ask": "p", "reply": "c", "talk": []}
    expected = Fields(form="prompt-completion", prompt="ask", completion="reply")
    assert find_fields([row], Named(prompt="ask", completion="reply")) == expected
    assert find_fields([row], Named(messages="talk")) == Fields(form="messages", messages="talk")


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ({"prompt": "ask"}, "--prompt-field needs --completion-field beside it; the data have: ask, reply"),
        ({"completion": "reply"}, "--completion-field needs --prompt-field beside it"),
        ({"prompt": "asc", "completion": "reply"}, r"no field 'asc' \(--prompt-field\).*Did you mean 'ask'\?"),
        ({"prompt": "ask", "completion": "reply", "text": "ask"}, "--text-field and --prompt-field are of two forms"),
        ({"messages": "talk"}, r"no field 'talk' \(--messages-field\)"),
    ],
)
def test_names_that_do_not_go_together_are_refused(named: dict[str, str], said: str) -> None:
    with pytest.raises(DataError, match=said):
        find_fields([{"ask": "x", "reply": "y"}], Named(**named))


def test_the_task_decides_whether_labels_count() -> None:
    row = {"text": "x", "label": 1, "prompt": "p", "completion": "c"}
    assert find_fields([row], task="sequence-classification").form == "text-label"
    assert find_fields([row], task="causal-lm").form == "prompt-completion"
    assert find_fields([{"text": "x", "label": 1}], task="causal-lm").form == "text"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, r"no text field; found: body, rating\. Name one with --text-field"),
        ({"text": "boddy"}, r"no field 'boddy' \(--text-field\); they have: body, rating\. Did you mean 'body'\?"),
        ({"text": "body", "label": "ratng"}, r"no field 'ratng' \(--label-field\).*Did you mean 'rating'\?"),
        (
            {"text": "body", "task": "sequence-classification"},
            r"no label field; found: body, rating\. Name one with --label-field",
        ),
    ],
)
def test_missing_fields_are_answered_with_those_found(options: dict[str, Any], said: str) -> None:
    task = options.pop("task", None)
    with pytest.raises(DataError, match=said):
        find_fields([{"body": "x", "rating": 3}], Named(**options), task=task)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"tokens": ["a"], "ner_tags": [0]}, ("tokens", "ner_tags")),
        ({"id": "0", "tokens": ["a"], "pos_tags": [1], "ner_tags": [0]}, ("tokens", "ner_tags")),
        ({"words": ["a"], "labels": ["O"]}, ("words", "labels")),
        ({"tokens": ["a"], "text": "a", "tags": [0]}, ("tokens", "tags")),
    ],
)
def test_words_and_tags_are_found(row: dict[str, Any], expected: tuple[str, str]) -> None:
    for task in (None, "token-classification"):
        fields = find_fields([row], task=task)  # type: ignore[arg-type]
        assert (fields.form, fields.text, fields.label) == ("words-tags", *expected)


def test_words_beside_a_labelled_text_are_not_what_is_meant() -> None:
    row = {"text": "a b", "label": 1, "tokens": ["a", "b"], "ner_tags": [0, 1]}
    assert find_fields([row]).form == "text-label"
    assert find_fields([row], Named(text="tokens", label="ner_tags")).form == "words-tags"
    assert find_fields([row], task="causal-lm") == Fields(form="text")


@pytest.mark.parametrize("row", [{"text": "a", "label": 1}, {"tokens": ["a"]}, {"tokens": "a", "tags": [1]}])
def test_token_classification_names_what_it_needs(row: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="token classification needs a list of words and one tag for each"):
        find_fields([row], task="token-classification")


def test_fields_that_the_first_row_lacks_count_too() -> None:
    assert find_fields([{"text": "a"}, {"text": "b", "label": 1}]).form == "text-label"
    assert find_fields([{"tokens": None, "tags": None}, {"tokens": ["a"], "tags": [1]}]).form == "words-tags"
