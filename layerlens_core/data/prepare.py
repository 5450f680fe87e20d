"""From a model's name and a data file to a model and samples, ready to profile."""

from collections.abc import Sequence
from typing import Any

from attrs import frozen
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from layerlens_core.data.encode import choose, encode
from layerlens_core.data.fields import find_fields, label_names
from layerlens_core.data.model import Loaded, choose_task, load, read_config
from layerlens_core.data.rows import Row, read_rows
from layerlens_core.errors import ModelError
from layerlens_core.inspection.inspect import inspect
from layerlens_core.profiling.model.samples import Sample
from layerlens_core.values.profile import Task


@frozen(kw_only=True)
class Prepared:
    """A loaded model with its tokenizer, samples to profile it on, their task and class names.

    untrained: weights that the checkpoint lacks and that no plan trains, so that they stay random.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    samples: list[Sample]
    task: Task
    labels: list[str]
    untrained: tuple[str, ...] = ()


def prepare(
    model: str,
    data: str | list[Row],
    *,
    text_field: str | None = None,
    label_field: str | None = None,
    task: Task | None = None,
    samples: int = 128,
    max_length: int = 256,
    seed: int = 0,
    dtype: str = "auto",
) -> Prepared:
    """Load a model and draw samples for it.

    model: a local directory or a hub id. data: a file, a dataset, or rows. task: by default what the data's
    fields and the model's kind suggest. samples: how many rows to draw. max_length: in tokens.

    Everything that can be checked without the weights is checked first. Raises `DataError` and `ModelError`.
    """
    config = read_config(model)
    rows = read_rows(data) if isinstance(data, str) else data
    classify = None if task is None else task == "sequence-classification"
    fields = find_fields(rows, text=text_field, label=label_field, classify=classify)
    task = choose_task(config, fields.form, task)
    labels = _classes(config, label_names(rows, fields.label)) if task == "sequence-classification" else []
    loaded = load(model, task, labels=labels, seed=seed, dtype=dtype)
    longest = getattr(config.get_text_config(), "max_position_embeddings", None)
    chosen = choose(len(rows), samples, seed)
    encoded = encode(
        [rows[i] for i in chosen],
        fields,
        loaded.tokenizer,
        task,
        labels=labels,
        # RoBERTa and its kin reserve the positions up to the padding token's.
        max_length=min(max_length, longest - 2) if isinstance(longest, int) and longest > 2 else max_length,
        seed=seed,
        numbers=[i + 1 for i in chosen],
    )
    _check_vocabulary(loaded, encoded)
    heads = tuple(f"{head.name}." for head in inspect(loaded.model).heads)
    return Prepared(
        model=loaded.model,
        tokenizer=loaded.tokenizer,
        samples=encoded,
        task=task,
        labels=labels,
        untrained=tuple(name for name in loaded.drawn if not name.startswith(heads)),
    )


def _classes(config: Any, labels: list[str]) -> list[str]:
    """The classes in the order in which the model knows them, where it was trained on these."""
    known = [str(name) for _, name in sorted((config.id2label or {}).items())]
    return known if sorted(known) == sorted(labels) else labels


def _check_vocabulary(loaded: Loaded, samples: Sequence[Sample]) -> None:
    """Raises `ModelError` where the tokenizer gives tokens that the model does not have."""
    size = int(loaded.model.get_input_embeddings().weight.shape[0])
    largest = max(int(sample["input_ids"].max()) for sample in samples)
    if largest >= size:
        raise ModelError(
            f"the tokenizer gives token {largest}, but the model has {size} (0 to {size - 1}); "
            "the two do not belong together, or tokens were added without resizing the model's embeddings"
        )
