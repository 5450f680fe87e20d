"""What the rows' labels make of a model: classes, numbers, several classes, tags; and what is said of it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.rows import rows_of
from layerlens_core.data.prepare import DataOptions, Prepared, prepare

Model = Callable[[str], str]
Write = Callable[..., str]

pytestmark = pytest.mark.torch


def labelled(values: list[Any], count: int = 12) -> list[dict[str, Any]]:
    """Rows of text with these labels in turn."""
    return [row | {"label": values[i % len(values)]} for i, row in enumerate(rows_of("text", count))]


def prepared(model: str, data: str, **options: Any) -> Prepared:
    return prepare(model, data, DataOptions(samples=8, **options))


@pytest.mark.parametrize("family", ["bert", "llama", "t5"])
@pytest.mark.parametrize(
    ("values", "problem", "classes"),
    [
        ([0.25, 1.5, -2], "regression", 1),
        (["a", "b", "c"], "single_label_classification", 3),
        ([[0, 1, 0], [1, 1, 0]], "multi_label_classification", 3),
        ([["a"], ["a", "b"], []], "multi_label_classification", 2),
    ],
)
def test_the_head_is_what_the_labels_need(
    model: Model, write: Write, family: str, values: list[Any], problem: str, classes: int
) -> None:
    found = prepared(model(family), write("rows.jsonl", labelled(values)))
    config = found.model.config
    assert (found.task, config.problem_type, config.num_labels) == ("sequence-classification", problem, classes)
    if problem != "regression":
        assert tuple(config.id2label.values()) == found.labels
        assert config.label2id == {name: place for place, name in config.id2label.items()}
    assert len(list(found.samples)) == 8
    shapes = {tuple(sample["labels"].shape) for sample in found.samples}
    assert shapes == ({(classes,)} if problem.startswith("multi") else {()})


def test_csv_says_numbers_and_lists_in_text(model: Model, write: Write) -> None:
    for values, problem in (
        ([0.5, 2], "regression"),
        ([0, 1], "single_label_classification"),
        ([[0, 1], [1, 1]], "multi_label_classification"),
    ):
        found = prepared(model("bert"), write("rows.csv", labelled(values)))
        assert found.model.config.problem_type == problem


def test_words_with_tags_are_tagged(model: Model, write: Write) -> None:
    rows = [
        {"tokens": row["text"].split(), "ner_tags": [i % 3 for i in range(len(row["text"].split()))]}
        for row in rows_of("text")
    ]
    for family in ("bert", "llama"):
        found = prepared(model(family), write("rows.jsonl", rows))
        assert (found.task, type(found.model).__name__.endswith("ForTokenClassification")) == (
            "token-classification",
            True,
        )
        assert found.labels == ("0", "1", "2")
        for sample in found.samples:
            assert sample["labels"].shape == sample["input_ids"].shape


def test_ratings_are_numbers_for_a_model_of_one_output(own_model: Callable[[str], Path], write: Write) -> None:
    path = own_model("bert")
    config = json.loads((path / "config.json").read_text())
    config |= {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}
    (path / "config.json").write_text(json.dumps(config))
    data = write("rows.jsonl", labelled([1, 2, 3, 4, 5]))
    assert prepared(str(path), data).model.config.problem_type == "regression"


@pytest.fixture
def classifier(models_dir: Path, tmp_path: Path) -> str:
    """A BERT that was trained to tell three moods apart."""
    import transformers

    moods = {0: "good", 1: "bad", 2: "neither"}
    config = transformers.AutoConfig.from_pretrained(models_dir / "bert", id2label=moods, num_labels=3)
    model = transformers.AutoModelForSequenceClassification.from_config(config)
    model.save_pretrained(tmp_path / "classifier")
    transformers.AutoTokenizer.from_pretrained(models_dir / "bert").save_pretrained(tmp_path / "classifier")
    return str(tmp_path / "classifier")


@pytest.mark.parametrize("values", [["bad", "good"], [2, 0], [2, 0, None, -1]])
def test_a_trained_head_is_kept_for_classes_that_it_knows(classifier: str, write: Write, values: list[Any]) -> None:
    found = prepared(classifier, write("rows.jsonl", labelled(values)))
    assert found.labels == ("good", "bad", "neither")
    assert found.untrained == ()
    assert found.target is not None
    assert found.target.note == ""


def test_other_classes_get_a_new_head_with_a_word(
    layerlens: Any, classifier: str, write: Write, tmp_path: Path
) -> None:
    data = write("rows.jsonl", labelled([0, 1, 7]))
    result = layerlens.ok("profile", classifier, "--data", data, "--out", tmp_path / "run")
    assert "sequence-classification: 3 classes of field 'label'" in result.stderr
    assert f"Warning: {classifier}: its head of 3 outputs does not know '7', so it gets a new one" in result.stderr


@pytest.mark.parametrize("family", ["bert", "llama", "t5"])
@pytest.mark.parametrize("values", [[0.25, 1.5, -2], [[0, 1, 0], [1, 1, 0]], ["a", "b"]])
def test_it_is_profiled_and_applied(
    layerlens: Any, model: Model, write: Write, tmp_path: Path, family: str, values: list[Any]
) -> None:
    run = tmp_path / "run"
    data = write("rows.jsonl", labelled(values))
    layerlens.ok("plan", model(family), "--data", data, "--budget", "params=r=2", "--out", run)
    layerlens.ok("apply", run, "--model", model(family), "--out", tmp_path / "adapter")


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_words_with_tags_are_profiled_and_applied(
    layerlens: Any, model: Model, write: Write, tmp_path: Path, family: str
) -> None:
    run = tmp_path / "run"
    words = [row["text"].split() for row in rows_of("text")]
    rows = [{"tokens": each, "ner_tags": [("O", "B", "I")[i % 3] for i in range(len(each))]} for each in words]
    result = layerlens.ok("plan", model(family), "--data", write("rows.jsonl", rows), "--out", run)
    assert "token-classification: 3 classes of field 'ner_tags'" in result.stderr
    layerlens.ok("apply", run, "--model", model(family), "--out", tmp_path / "adapter")


# ---------------------------------------------------------------------------------- the head must be there


@pytest.fixture
def headless(models_dir: Path, tmp_path: Path) -> Callable[[str], str]:
    """A BERT that was saved with another head than that of a language model."""
    import transformers

    def make(name: str) -> str:
        auto = getattr(transformers, name)
        auto.from_config(transformers.AutoConfig.from_pretrained(models_dir / "bert")).save_pretrained(tmp_path / name)
        transformers.AutoTokenizer.from_pretrained(models_dir / "bert").save_pretrained(tmp_path / name)
        return str(tmp_path / name)

    return make


@pytest.mark.parametrize(
    "name",
    [
        "AutoModel",
        "AutoModelForTokenClassification",
        "AutoModelForQuestionAnswering",
        "AutoModelForSequenceClassification",
    ],
)
def test_a_language_model_without_its_head_is_refused(
    layerlens: Any, headless: Callable[[str], str], data: Model, tmp_path: Path, name: str
) -> None:
    path, out = headless(name), tmp_path / "run"
    said = layerlens.refused("plan", path, "--data", data("text"), "--out", out, out=out)
    assert f"{path} holds no weights for cls.predictions." in said
    assert "more, which masked-lm needs; they would stay random, since no plan trains them" in said
    assert "or use --task masked-lm" in said


def test_it_is_taken_with_a_warning_where_the_task_is_named(
    layerlens: Any, headless: Callable[[str], str], data: Model, tmp_path: Path
) -> None:
    asked = ("profile", headless("AutoModel"), "--data", data("text"), "--task", "masked-lm", "--out", tmp_path / "run")
    assert "tensors are random, and no plan trains them" in layerlens.ok(*asked).stderr


def test_a_checkpoint_without_some_of_its_layers_is_refused(
    layerlens: Any, own_model: Callable[[str], Path], data: Model, tmp_path: Path
) -> None:
    path = own_model("llama")
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 6}))
    out = tmp_path / "run"
    said = layerlens.refused("plan", path, "--data", data("text"), "--out", out, out=out)
    assert f"{path} holds no weights for model.layers.4." in said


@pytest.mark.parametrize("name", ["AutoModel", "AutoModelForTokenClassification"])
def test_a_classifiers_own_head_may_be_new(headless: Callable[[str], str], data: Model, name: str) -> None:
    found = prepared(headless(name), data("labelled"))
    assert all("pooler" in name for name in found.untrained)


# ------------------------------------------------------------------------------------------ what was said


def test_what_became_of_the_rows_is_said_and_recorded(
    layerlens: Any, model: Model, write: Write, tmp_path: Path
) -> None:
    texts = ["", " ", "the cat", "the red cat sees a dog and a bird", "the cat", "a dog"]
    data = write("rows.jsonl", [{"text": text} for text in texts])
    asked = ("profile", model("llama"), "--data", data, "--samples", 4, "--max-length", 5, "--out", tmp_path / "run")
    assert (
        "6 rows read, 4 used; 1 of them cut to 5 tokens; 1 of them repeats an earlier one; "
        "left out: 2 with an empty text"
    ) in layerlens.ok(*asked).stderr.splitlines()
    settings = json.loads((tmp_path / "run" / "profile.json").read_text())["settings"]
    assert {name: settings[name] for name in ("rows", "rows_cut", "rows_left_out", "max_length")} == {
        "rows": 6,
        "rows_cut": 1,
        "rows_left_out": 2,
        "max_length": 5,
    }


def test_a_run_of_numbers_is_applied_with_a_head_of_one(
    layerlens: Any, model: Model, write: Write, tmp_path: Path
) -> None:
    from layerlens_core.values.profile import Profile

    data = write("rows.jsonl", labelled([0.5, 1.5, 4]))
    layerlens.ok("plan", model("bert"), "--data", data, "--budget", "params=r=2", "--out", tmp_path / "run")
    profile = Profile.load(tmp_path / "run")
    assert (profile.labels, profile.settings["problem_type"]) == ((), "regression")
    layerlens.ok("apply", tmp_path / "run", "--model", model("bert"), "--out", tmp_path / "adapter")


# ------------------------------------------------------------------------------------------ padding tokens


@pytest.mark.parametrize("pad", [-1, 33, 5000, None])
def test_a_padding_token_outside_of_the_vocabulary_is_replaced(
    own_model: Callable[[str], Path], data: Model, pad: int | None
) -> None:
    path = own_model("llama")
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"pad_token_id": pad}))
    assert prepared(str(path), data("text")).model.config.pad_token_id == 0


def test_a_tokenizers_padding_token_outside_of_the_vocabulary_is_not_taken(
    own_model: Callable[[str], Path], data: Model
) -> None:
    import transformers

    path = own_model("llama")
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    tokenizer.add_special_tokens({"pad_token": "[NEW]"})
    tokenizer.save_pretrained(path)
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"pad_token_id": None}))
    found = prepared(str(path), data("text"))
    assert found.model.config.pad_token_id == found.tokenizer.eos_token_id
