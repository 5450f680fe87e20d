"""From rows to samples: where the loss is, what is cut, what is masked."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from layerlens_core.data.encode import (
    NO_COMPLETION,
    NO_LABEL,
    NO_TEXT,
    NOTHING_MASKED,
    NOTHING_TO_LEARN,
    Encoded,
    Encoder,
    encode,
)
from layerlens_core.data.fields import Fields, find_fields
from layerlens_core.data.target import Target
from layerlens_core.errors import DataError
from layerlens_core.profiling.samples.sample import IGNORED

Make = Callable[..., transformers.PreTrainedTokenizerFast]
TEXT, PAIRS, MESSAGES = Fields(form="text"), Fields(form="prompt-completion"), Fields(form="messages")
#: Renders special tokens itself, as chat templates do.
TEMPLATE = (
    "[CLS] {% for m in messages %}<{{ m.role }}> {{ m.content }} [SEP] {% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def words(count: int, start: int = 0) -> str:
    return " ".join(f"w{(start + i) % 60}" for i in range(count))


def tokens(sample: dict[str, torch.Tensor], tokenizer: Any) -> list[str]:
    return list(tokenizer.convert_ids_to_tokens(sample["input_ids"].tolist()))


# ------------------------------------------------------------------------------------------ plain text


def test_a_causal_model_predicts_all_of_a_text(tokenizer: Make) -> None:
    (sample,) = encode([{"text": words(5)}], TEXT, tokenizer("[CLS] $A"), "causal-lm")
    assert tokens(sample, tokenizer()) == ["[CLS]", *words(5).split()]
    assert torch.equal(sample["labels"], sample["input_ids"])
    assert sample["labels"] is not sample["input_ids"]
    assert {value.dtype for value in sample.values()} == {torch.int64}


def test_texts_are_cut_at_max_length(tokenizer: Make) -> None:
    samples = encode([{"text": words(50)}, {"text": words(3)}], TEXT, tokenizer(), "causal-lm", max_length=7)
    assert [len(sample["input_ids"]) for sample in samples] == [7, 3]


def test_classes_become_their_place_in_the_list(tokenizer: Make) -> None:
    fields = Fields(form="text-label")
    rows = [{"text": "w1", "label": 10}, {"text": "w2", "label": 2}]
    target = Target(problem="single_label_classification", names=("2", "10"))
    samples = encode(rows, fields, tokenizer(), "sequence-classification", target=target)
    assert [int(sample["labels"]) for sample in samples] == [1, 0]
    assert samples[0]["labels"].dim() == 0


def test_what_labels_become_follows_from_the_problem(tokenizer: Make) -> None:
    fields = Fields(form="text-label")
    for target, value, expected in (
        (Target(problem="regression"), 3, torch.tensor(3.0)),
        (Target(problem="multi_label_classification", names=("a", "b")), ["b"], torch.tensor([0.0, 1.0])),
        (Target(problem="single_label_classification", names=("a", "b")), "b", torch.tensor(1)),
    ):
        row = {"text": "w1", "label": value}
        (sample,) = encode([row], fields, tokenizer(), "sequence-classification", target=target)
        assert torch.equal(sample["labels"], expected)
        assert sample["labels"].dtype == expected.dtype


def encoded(tokenizer: Any, row: dict[str, Any], form: Any, task: Any, **options: Any) -> Encoded:
    return Encoder(fields=Fields(form=form), tokenizer=tokenizer, task=task, **options)(row, place=0, number=1)


@pytest.mark.parametrize(
    ("row", "form", "task", "reason"),
    [
        ({"text": ""}, "text", "causal-lm", NO_TEXT),
        ({"text": " \n"}, "text", "masked-lm", NO_TEXT),
        ({"text": " ", "label": "a"}, "text-label", "sequence-classification", NO_TEXT),
        ({"text": "w1", "label": None}, "text-label", "sequence-classification", NO_LABEL),
        ({"prompt": "w1", "completion": ""}, "prompt-completion", "causal-lm", NO_COMPLETION),
        ({"prompt": "w1", "completion": " "}, "prompt-completion", "seq2seq-lm", NO_COMPLETION),
        (
            {"messages": [{"role": "user", "content": "w1"}, {"role": "assistant", "content": ""}]},
            "messages",
            "causal-lm",
            NO_COMPLETION,
        ),
        ({"text": "w1"}, "text", "causal-lm", NOTHING_TO_LEARN),
        ({"text": "w1"}, "text", "masked-lm", NOTHING_MASKED),
        ({"text": [], "label": []}, "words-tags", "token-classification", NO_TEXT),
        ({"text": ["w1"], "label": [None]}, "words-tags", "token-classification", NO_LABEL),
    ],
)
def test_rows_that_give_no_sample_say_why(tokenizer: Make, row: Any, form: Any, task: Any, reason: str) -> None:
    made = tokenizer(chat_template=TEMPLATE)
    target = Target(problem="single_label_classification", names=("a", "b"))
    assert encoded(made, row, form, task, target=target) == Encoded(None, reason)
    assert encode([row], Fields(form=form), made, task, target=target) == []


@pytest.mark.parametrize(("value", "said"), [(None, "nothing"), (7, "int 7"), (["x"], r"list \['x'\]")])
def test_what_is_no_text_is_named_with_its_row(tokenizer: Make, value: object, said: str) -> None:
    rows = [{"text": "w1"}, {"text": value}]
    with pytest.raises(DataError, match=rf"row 2: field 'text' must hold text, but holds {said}"):
        encode(rows, TEXT, tokenizer(), "causal-lm")


def test_what_the_tokenizer_raises_is_named_with_its_row(tokenizer: Make) -> None:
    with pytest.raises(DataError, match="row 2: the tokenizer does not take the text: TypeError"):
        encode([{"text": "w1"}, {"text": "cat \ud83d"}], TEXT, tokenizer(), "causal-lm")


@pytest.mark.parametrize(("words_", "cut"), [(6, False), (7, False), (8, True), (3000, True)])
def test_a_sample_knows_that_it_was_cut(tokenizer: Make, words_: int, cut: bool) -> None:
    found = encoded(tokenizer("[CLS] $A [SEP]"), {"text": words(words_)}, "text", "causal-lm", max_length=9)
    assert found.sample is not None
    assert found.cut is cut
    pair = {"prompt": words(words_), "completion": "w1"}
    assert encoded(tokenizer(), pair, "prompt-completion", "causal-lm", max_length=9).cut is cut
    for row in (pair, {"prompt": "w1", "completion": words(words_)}):
        made = tokenizer("[CLS] $A [SEP]")
        assert encoded(made, row, "prompt-completion", "seq2seq-lm", max_length=9).cut is cut


# ----------------------------------------------------------------------------------------- words and tags

TAGS = Target(problem="single_label_classification", names=("O", "B", "I"))


def test_the_first_token_of_a_word_has_its_tag(tokenizer: Make) -> None:
    made = tokenizer("[CLS] $A [SEP]")
    row = {"text": ["w1", "w2 w3 w4", "", "w5", "w6"], "label": ["O", "B", "I", None, "I"]}
    found = encoded(made, row, "words-tags", "token-classification", target=TAGS)
    assert found.sample is not None
    assert tokens(found.sample, made) == ["[CLS]", "w1", "w2", "w3", "w4", "w5", "w6", "[SEP]"]
    expected = [IGNORED, 0, 1, IGNORED, IGNORED, IGNORED, 2, IGNORED]
    assert found.sample["labels"].tolist() == expected
    cut = encoded(made, row, "words-tags", "token-classification", target=TAGS, max_length=5)
    assert cut.sample is not None
    assert (cut.sample["labels"].tolist(), cut.cut) == ([IGNORED, 0, 1, IGNORED, IGNORED], True)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"text": ["w1"], "label": ["O", "B"]}, "row 1: field 'text' holds 1 words and field 'label' 2 tags; each"),
        ({"text": "w1", "label": ["O"]}, "field 'text' must hold a list of words, but holds str w1"),
        ({"text": ["w1", 2], "label": ["O", "O"]}, "must hold a list of words, but holds list"),
        ({"text": ["w1"], "label": "O"}, "field 'label' must hold a list of one tag a word, but holds str O"),
    ],
)
def test_words_that_do_not_fit_their_tags_are_refused(tokenizer: Make, row: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        encoded(tokenizer(), row, "words-tags", "token-classification", target=TAGS)


# ------------------------------------------------------------------------------- prompts and completions


def test_the_loss_is_on_the_completion_and_its_end(tokenizer: Make) -> None:
    made = tokenizer("[CLS] $A [SEP]")  # a [SEP] after the prompt would end the text before the completion
    (sample,) = encode([{"prompt": "w1 w2", "completion": "w3 w4"}], PAIRS, made, "causal-lm")
    assert tokens(sample, made) == ["[CLS]", "w1", "w2", "w3", "w4", "[SEP]"]
    assert sample["labels"].tolist() == [IGNORED] * 3 + sample["input_ids"][3:].tolist()
    assert sample["attention_mask"].tolist() == [1] * 6


@settings(
    max_examples=60, suppress_health_check=[*settings().suppress_health_check, HealthCheck.function_scoped_fixture]
)
@given(prompt=st.integers(0, 40), completion=st.integers(1, 40), max_length=st.integers(2, 30))
def test_something_of_the_completion_is_always_kept(
    tokenizer: Make, prompt: int, completion: int, max_length: int
) -> None:
    row = {"prompt": words(prompt), "completion": words(completion, start=41)}
    (sample,) = encode([row], PAIRS, tokenizer(), "causal-lm", max_length=max_length)
    labels = sample["labels"]
    assert len(sample["input_ids"]) == len(labels) == min(prompt + completion + 1, max_length)
    learnt = [label for label in labels.tolist() if label != IGNORED]
    whole = [*tokenizer()(row["completion"])["input_ids"], tokenizer().eos_token_id]
    assert learnt == whole[: len(learnt)]
    assert len(learnt) >= min(len(whole), max_length // 2) >= 1
    kept = sample["input_ids"][: len(labels) - len(learnt)].tolist()
    before = tokenizer()(row["prompt"])["input_ids"]
    assert kept == before[len(before) - len(kept) :]  # a prompt loses its beginning


def test_a_sequence_to_sequence_model_gets_both_sides_cut(tokenizer: Make) -> None:
    made = tokenizer("$A [SEP]")
    row = {"prompt": words(50), "completion": words(30)}
    (sample,) = encode([row], PAIRS, made, "seq2seq-lm", max_length=8)
    assert len(sample["input_ids"]) == len(sample["labels"]) == 8
    assert sample["input_ids"][-1] == sample["labels"][-1] == made.eos_token_id
    assert IGNORED not in sample["labels"].tolist()


# --------------------------------------------------------------------------------------------- messages


CONVERSATION = [
    {"role": "user", "content": "w1 w2"},
    {"role": "assistant", "content": "w3"},
    {"role": "user", "content": "w4"},
    {"role": "assistant", "content": "w5 w6"},
]


def test_the_loss_is_on_the_last_answer_as_the_template_renders_it(tokenizer: Make) -> None:
    made = tokenizer("[CLS] $A [SEP]", chat_template=TEMPLATE)
    (sample,) = encode([{"messages": CONVERSATION}], MESSAGES, made, "causal-lm")
    before = [
        "[CLS]", "<user>", "w1", "w2", "[SEP]", "<assistant>", "w3", "[SEP]", "<user>", "w4", "[SEP]", "<assistant>",
    ]  # fmt: skip
    # The template's special tokens are not doubled by the tokenizer's own.
    assert tokens(sample, made) == [*before, "w5", "w6", "[SEP]"]
    assert sample["labels"].tolist() == [IGNORED] * len(before) + sample["input_ids"][len(before) :].tolist()


def test_a_conversation_of_sharegpt_is_the_same(tokenizer: Make) -> None:
    made, names = tokenizer("[CLS] $A [SEP]", chat_template=TEMPLATE), {"user": "human", "assistant": "gpt"}
    row = {"conversations": [{"from": names[m["role"]], "value": m["content"]} for m in CONVERSATION]}
    fields = find_fields([row])
    (theirs,), (ours,) = (
        encode([row], fields, made, "causal-lm"), encode([{"messages": CONVERSATION}], MESSAGES, made, "causal-lm")
    )  # fmt: skip
    assert all(torch.equal(theirs[key], ours[key]) for key in ours)


def test_a_prompt_and_a_completion_may_be_messages(tokenizer: Make) -> None:
    made = tokenizer("[CLS] $A [SEP]", chat_template=TEMPLATE)
    (theirs,) = encode([{"prompt": CONVERSATION[:3], "completion": CONVERSATION[3:]}], PAIRS, made, "causal-lm")
    (ours,) = encode([{"messages": CONVERSATION}], MESSAGES, made, "causal-lm")
    assert all(torch.equal(theirs[key], ours[key]) for key in ours)
    (several,) = encode([{"prompt": CONVERSATION[:1], "completion": CONVERSATION[1:]}], PAIRS, made, "causal-lm")
    assert torch.equal(several["input_ids"], ours["input_ids"])
    learnt = [token for token, label in zip(tokens(several, made), several["labels"], strict=True) if label != IGNORED]
    assert learnt == ["w3", "[SEP]", "<user>", "w4", "[SEP]", "<assistant>", "w5", "w6", "[SEP]"]
    with pytest.raises(DataError, match="no chat template for messages"):
        encode([{"prompt": CONVERSATION[:1], "completion": CONVERSATION[1:2]}], PAIRS, tokenizer(), "causal-lm")
    with pytest.raises(DataError, match="field 'completion' must hold a list of messages"):
        encode([{"prompt": CONVERSATION[:1], "completion": "w3"}], PAIRS, made, "causal-lm")


@pytest.mark.parametrize(("context", "between"), [("w3", ["w3"]), ("", []), (None, [])])
def test_the_input_of_an_instruction_follows_it(tokenizer: Make, context: Any, between: list[str]) -> None:
    made = tokenizer()
    row = {"instruction": "w1 w2", "input": context, "output": "w4"}
    (sample,) = encode([row], find_fields([{**row, "input": ""}]), made, "causal-lm")
    assert tokens(sample, made)[: 3 + len(between)] == ["w1", "w2", *between, "w4"]


def test_an_answer_that_the_template_renders_otherwise_is_taken_bare(tokenizer: Make) -> None:
    template = "{% for m in messages %}{{ m.content }} {% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
    made = tokenizer("$A", chat_template=template)
    (sample,) = encode([{"messages": CONVERSATION[:2]}], MESSAGES, made, "causal-lm")
    assert tokens(sample, made) == ["w1", "w2", "<assistant>", "w3", "[SEP]"]
    assert [label != IGNORED for label in sample["labels"].tolist()] == [False, False, False, True, True]


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        (None, "row 1: field 'messages' must hold a list of messages with role and content.*but holds nothing"),
        ("[]", "must hold a list of messages.*but holds str"),
        ([], "must hold a list of messages"),
        (["hello"], "must hold a list of messages"),
        (CONVERSATION[:3], "the assistant's text last"),
        ([{"role": "user", "content": "w1"}, {"role": "assistant", "content": None}], "the assistant's text last"),
        ([{"role": "user", "content": "w1"}, {"role": "assistant"}], "the assistant's text last"),
    ],
)
def test_messages_that_do_not_end_with_an_answer_are_refused(tokenizer: Make, messages: object, said: str) -> None:
    with pytest.raises(DataError, match=said):
        encode([{"messages": messages}], MESSAGES, tokenizer(chat_template=TEMPLATE), "causal-lm")


def test_a_template_that_refuses_the_messages_is_quoted(tokenizer: Make) -> None:
    made = tokenizer(chat_template="{{ raise_exception('no system role, please') }}")
    with pytest.raises(DataError, match=r"row 1: the tokenizer's chat template does not take.*no system role, please"):
        encode([{"messages": CONVERSATION}], MESSAGES, made, "causal-lm")


def test_messages_need_a_chat_template(tokenizer: Make) -> None:
    with pytest.raises(DataError, match=r"^the tokenizer has no chat template for messages; use prompt and completion"):
        encode([{"messages": CONVERSATION}], MESSAGES, tokenizer(), "causal-lm")


# ---------------------------------------------------------------------------------------------- masking


def masked(tokenizer: Any, rows: list[dict[str, str]], seed: int = 0) -> list[dict[str, torch.Tensor]]:
    return encode(rows, TEXT, tokenizer, "masked-lm", seed=seed)


def test_masked_tokens_depend_on_seed_and_index_alone(tokenizer: Make) -> None:
    made = tokenizer("[CLS] $A [SEP]")
    rows = [{"text": words(40, start=i)} for i in range(6)]
    first = masked(made, rows)
    torch.manual_seed(99)
    torch.rand(3)
    # Whatever comes before or after a row, and whatever else draws numbers, its masks stay.
    others = [{"text": words(3)}, {"text": words(7)}, *rows[2:4]]
    for again in (masked(made, rows), masked(made, others)):
        for index in (2, 3):
            assert torch.equal(first[index]["labels"], again[index]["labels"])
            assert torch.equal(first[index]["input_ids"], again[index]["input_ids"])
    same_text = masked(made, [rows[0]] * 2)
    assert not torch.equal(same_text[0]["labels"], same_text[1]["labels"])
    assert not torch.equal(masked(made, rows, seed=1)[2]["labels"], first[2]["labels"])


def test_masking_leaves_the_global_random_state(tokenizer: Make) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    masked(tokenizer("[CLS] $A [SEP]"), [{"text": words(30)}])
    assert torch.equal(torch.rand(1), expected)


def test_labels_are_the_tokens_that_were_hidden(tokenizer: Make) -> None:
    made = tokenizer("[CLS] $A [SEP]")
    rows = [{"text": words(50, start=i)} for i in range(20)]
    hidden = seen = 0
    for row, sample in zip(rows, masked(made, rows), strict=True):
        plain = torch.tensor(made(row["text"])["input_ids"])
        labelled = sample["labels"] != IGNORED
        assert torch.equal(sample["labels"][labelled], plain[labelled])
        assert torch.equal(sample["input_ids"][~labelled], plain[~labelled])
        assert not labelled[[0, -1]].any()  # special tokens are never hidden
        hidden += int(labelled.sum())
        seen += len(plain) - 2
    assert 0.1 < hidden / seen < 0.2


def test_a_masked_model_needs_a_mask_token(tokenizer: Make) -> None:
    with pytest.raises(DataError, match="no mask token, so it does not fit a masked language model"):
        encode([{"text": "w1"}], TEXT, tokenizer(mask_token=None), "masked-lm")


def test_long_texts_are_cut_in_silence(tokenizer: Make, caplog: pytest.LogCaptureFixture) -> None:
    made = tokenizer(chat_template=TEMPLATE)
    made.model_max_length = 8
    long = [{"role": "user", "content": words(30)}, {"role": "assistant", "content": words(30)}]
    logger = logging.getLogger("transformers")  # it does not propagate to where caplog listens
    logger.addHandler(caplog.handler)
    try:
        encode([{"prompt": words(30), "completion": words(30)}], PAIRS, made, "causal-lm", max_length=6)
        encode([{"messages": long}], MESSAGES, made, "causal-lm", max_length=6)
        encode([{"text": words(30)}], TEXT, made, "causal-lm", max_length=6)
        assert caplog.text == ""
        made(words(30))
        assert "longer than the specified maximum" in caplog.text  # what it would have said
    finally:
        logger.removeHandler(caplog.handler)
