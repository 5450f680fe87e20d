"""From a model's name and a data file to a model and samples, ready to profile."""

from attrs import frozen
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from layerlens_core.data.encode import choose, encode
from layerlens_core.data.fields import find_fields, label_names
from layerlens_core.data.rows import Row, read_rows
from layerlens_core.loading import choose_task, load, read_config
from layerlens_core.profiling.losses import Task
from layerlens_core.profiling.samples import Sample


@frozen(kw_only=True)
class Prepared:
    """A loaded model with its tokenizer, samples to profile it on, their task and class names."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    samples: list[Sample]
    task: Task
    labels: list[str]


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
    task = task or choose_task(config, fields.form)
    labels = label_names(rows, fields.label) if task == "sequence-classification" else []
    loaded, tokenizer = load(model, task, labels=labels, seed=seed, dtype=dtype)
    longest = getattr(config.get_text_config(), "max_position_embeddings", None)
    encoded = encode(
        choose(rows, samples, seed),
        fields,
        tokenizer,
        task,
        labels=labels,
        # RoBERTa and its kin reserve the positions up to the padding token's.
        max_length=min(max_length, longest - 2) if isinstance(longest, int) and longest > 2 else max_length,
        seed=seed,
    )
    return Prepared(model=loaded, tokenizer=tokenizer, samples=encoded, task=task, labels=labels)
