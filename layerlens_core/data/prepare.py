"""From a model's name and a data file to a model and samples, ready to profile."""

from collections.abc import Callable, Sequence
from typing import Any

from attrs import frozen
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from layerlens_core.data.draw import Draw, survey
from layerlens_core.data.encode import Encoder
from layerlens_core.data.fields import Named
from layerlens_core.data.model import Loaded, choose_task, known_head, load, read_config
from layerlens_core.data.rows import ListedRows, Row, open_rows
from layerlens_core.data.target import Target, decide
from layerlens_core.errors import ModelError
from layerlens_core.inspection.inspect import inspect
from layerlens_core.profiling.samples.sample import Sample
from layerlens_core.values.inventory import Inventory
from layerlens_core.values.profile import Task


@frozen(kw_only=True)
class DataOptions:
    """How rows become samples.

    text_field: name of the text's field; by default it is found (`layerlens_core.data.fields`).
    label_field: name of the label's field, likewise.
    prompt_field: name of the prompt's field, likewise, beside `completion_field`.
    completion_field: name of the completion's field.
    messages_field: name of the conversation's field.
    task: by default what the data's fields and the model's kind suggest.
    samples: how many to draw.
    lazily: whether they are encoded only when they are asked for.
    max_length: tokens of a sample at most.
    """

    text_field: str | None = None
    label_field: str | None = None
    prompt_field: str | None = None
    completion_field: str | None = None
    messages_field: str | None = None
    task: Task | None = None
    samples: int = 128
    lazily: bool = False
    max_length: int = 256

    @property
    def named(self) -> Named:
        """The fields that were named."""
        return Named(
            text=self.text_field,
            label=self.label_field,
            prompt=self.prompt_field,
            completion=self.completion_field,
            messages=self.messages_field,
        )


@frozen(kw_only=True)
class Prepared:
    """A loaded model, and samples to profile it on.

    model: as loaded.
    tokenizer: as loaded.
    inventory: of the model.
    samples: without padding; a `Draw` encodes them as they are asked for.
    draw: which tells what became of the rows.
    task: which loss they are for.
    target: what a classifier is to answer.
    untrained: weights that the checkpoint lacks and that no plan trains, so that they stay random.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    inventory: Inventory
    samples: Sequence[Sample] | Draw
    draw: Draw
    task: Task
    target: Target | None = None
    untrained: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes, for classification."""
        return self.target.names if self.target is not None else ()


def prepare(
    model: str,
    data: str | Sequence[Row],
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

    Raises `DataError` and `ModelError`, the latter where the checkpoint lacks what the task needs and no plan trains,
    unless the task was asked for.
    """
    config = read_config(model, trust_remote_code=trust_remote_code)
    rows = open_rows(data) if isinstance(data, str) else ListedRows(data)
    found = survey(
        rows,
        named=options.named,
        task=options.task,
        name=data if isinstance(data, str) else "the data",
    )
    task = choose_task(config, found.fields.form, options.task)
    target = None if found.labels is None else decide(found.labels, known_head(config, task))
    loaded = load(
        model, task, config=config, target=target, seed=seed, dtype=dtype, trust_remote_code=trust_remote_code
    )
    inventory = inspect(loaded.model)
    heads = tuple(f"{head.name}." for head in inventory.heads)
    untrained = tuple(name for name in loaded.drawn if not name.startswith(heads))
    if options.task is None:
        _check_head(model, loaded, task, untrained)
    draw = Draw(
        rows=rows,
        survey=found,
        encoder=Encoder(
            fields=found.fields,
            tokenizer=loaded.tokenizer,
            task=task,
            target=target,
            max_length=_most_tokens(config, options.max_length),
            seed=seed,
        ),
        seed=seed,
        most=options.samples,
        check=_vocabulary_check(loaded, task),
        lazily=options.lazily,
    )
    return Prepared(
        model=loaded.model,
        tokenizer=loaded.tokenizer,
        inventory=inventory,
        samples=draw if options.lazily else list(draw),
        draw=draw,
        task=task,
        target=target,
        untrained=untrained,
    )


def _check_head(model: str, loaded: Loaded, task: Task, untrained: Sequence[str]) -> None:
    """Raises `ModelError` where weights stay random of which the loss is computed.

    A pooler may: checkpoints of language models lack it, and classifiers that are trained on one that is random learn.
    """
    needed = [name for name in untrained if ".pooler." not in f".{name}"]
    if needed:
        more = f" and {len(needed) - 1} more" if len(needed) > 1 else ""
        raise ModelError(
            f"{model} holds no weights for {needed[0]}{more}, which {task} needs; they would stay random, since no "
            f"plan trains them. Name a model that was saved as {type(loaded.model).__name__}, or use --task {task}"
        )


def _most_tokens(config: Any, wanted: int) -> int:
    """As many tokens as are wanted, but no more than the model has positions for."""
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)
    # RoBERTa and models like it reserve the positions up to the padding token's id.
    return min(wanted, positions - 2) if isinstance(positions, int) and positions > 2 else wanted


def _vocabulary_check(loaded: Loaded, task: Task) -> Callable[[Sample], None]:
    """What raises `ModelError` for a sample that holds tokens that the model does not have."""
    size = int(loaded.model.get_input_embeddings().weight.shape[0])
    keys = ("input_ids", "labels") if task in ("causal-lm", "masked-lm", "seq2seq-lm") else ("input_ids",)

    def check(sample: Sample) -> None:
        largest = max(int(sample[key].max()) for key in keys)
        if largest >= size:
            raise ModelError(
                f"the tokenizer gives token {largest}, but the model has {size} (0 to {size - 1}); "
                "the two do not belong together, or tokens were added without resizing the model's embeddings"
            )

    return check
