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
from layerlens_core.values.inventory import Inventory
from layerlens_core.values.profile import Task


@frozen(kw_only=True)
class DataOptions:
    """How rows become samples.

    text_field: name of the text's field; by default it is found (`layerlens_core.data.fields`).
    label_field: name of the label's field, likewise.
    task: by default what the data's fields and the model's kind suggest.
    samples: how many rows to draw.
    max_length: tokens of a sample at most.
    """

    text_field: str | None = None
    label_field: str | None = None
    task: Task | None = None
    samples: int = 128
    max_length: int = 256


@frozen(kw_only=True)
class Prepared:
    """A loaded model, and samples to profile it on.

    model: as loaded.
    tokenizer: as loaded.
    inventory: of the model.
    samples: without padding.
    task: which loss they are for.
    labels: names of the classes, for classification.
    untrained: weights that the checkpoint lacks and that no plan trains, so that they stay random.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    inventory: Inventory
    samples: list[Sample]
    task: Task
    labels: list[str]
    untrained: tuple[str, ...] = ()


def prepare(
    model: str,
    data: str | list[Row],
    options: DataOptions,
    *,
    seed: int = 0,
    dtype: str = "auto",
    trust_remote_code: bool = False,
) -> Prepared:
    """Load a model and draw samples for it.

    Everything that can be checked without the weights is checked first.

    model: a local directory or a hub id.
    data: a file, a dataset, or rows.
    options: how rows become samples.
    seed: of the draw, and of weights that the checkpoint lacks.
    dtype: to load the model in; ``auto`` takes the checkpoint's.
    trust_remote_code: whether to run Python files that come with the model.

    Raises `DataError` and `ModelError`.
    """
    config = read_config(model, trust_remote_code=trust_remote_code)
    rows = read_rows(data) if isinstance(data, str) else data
    classify = None if options.task is None else options.task == "sequence-classification"
    fields = find_fields(rows, text=options.text_field, label=options.label_field, classify=classify)
    task = choose_task(config, fields.form, options.task)
    labels = _classes(config, label_names(rows, fields.label)) if task == "sequence-classification" else []
    loaded = load(model, task, labels=labels, seed=seed, dtype=dtype, trust_remote_code=trust_remote_code)
    chosen = choose(len(rows), options.samples, seed)
    encoded = encode(
        [rows[i] for i in chosen],
        fields,
        loaded.tokenizer,
        task,
        labels=labels,
        max_length=_most_tokens(config, options.max_length),
        seed=seed,
        numbers=[i + 1 for i in chosen],
    )
    _check_vocabulary(loaded, encoded)
    inventory = inspect(loaded.model)
    heads = tuple(f"{head.name}." for head in inventory.heads)
    return Prepared(
        model=loaded.model,
        tokenizer=loaded.tokenizer,
        inventory=inventory,
        samples=encoded,
        task=task,
        labels=labels,
        untrained=tuple(name for name in loaded.drawn if not name.startswith(heads)),
    )


def _most_tokens(config: Any, wanted: int) -> int:
    """As many tokens as are wanted, but no more than the model has positions for."""
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)
    # RoBERTa and models like it reserve the positions up to the padding token's id.
    return min(wanted, positions - 2) if isinstance(positions, int) and positions > 2 else wanted


def _classes(config: Any, labels: list[str]) -> list[str]:
    """The classes, in the order in which the model knows them where it was trained on the same ones."""
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
