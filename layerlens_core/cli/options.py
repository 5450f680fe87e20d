"""Options that several commands take, and what they mean."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import click

from layerlens_core.errors import LayerLensError, PlanError, ScoreError
from layerlens_core.values.scores import DEFAULT_METRIC, DEFAULT_PASSIVE_METRIC

if TYPE_CHECKING:
    from layerlens_core.values.costs import Training

F = TypeVar("F", bound=Callable[..., Any])


#: Rows that ``--samples auto`` takes at most, where no number is given.
AUTO_MOST = 4096
#: Of ``--metric``, where it may be left out.
METRIC_HELP = (
    f"Repeatable.  [default: {DEFAULT_METRIC}; {DEFAULT_PASSIVE_METRIC} with --shard, --samples auto, and --scores "
    "other than exact]"
)
#: Of ``--methods``, where it may be left out.
METHODS_HELP = (
    "Methods to choose from, comma-separated.  [default: lora; core too for budgets below its rank 1, after a profile "
    "with --warm-up or --directions; and those of plugins]"
)
#: The seeds that every random generator takes.
SEED = click.IntRange(0, 2**32 - 1)


class MicroBatchSize(click.IntRange):
    """A number from 1 on, or ``auto``."""

    name = "integer or auto"

    def __init__(self) -> None:
        super().__init__(min=1)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """See `click.ParamType.convert`."""
        return value if value == "auto" else super().convert(value, param, ctx)


class SampleNumber(click.IntRange):
    """A number from 1 on, ``auto``, or ``auto:N`` for at most N. Gives the number, or ``auto`` and the most."""

    name = "integer, auto or auto:N"

    def __init__(self) -> None:
        super().__init__(min=1)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """See `click.ParamType.convert`."""
        if isinstance(value, str) and value.partition(":")[0] == "auto":
            most: Any = value.partition(":")[2] if ":" in value else AUTO_MOST
            return "auto", super().convert(most, param, ctx)
        return super().convert(value, param, ctx)


def _several(*options: Callable[[F], F]) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


run_argument = click.argument("run", type=click.Path(path_type=Path), metavar="RUN")

output_options = _several(
    click.option("--out", required=True, type=click.Path(path_type=Path), help="Directory of the run."),
    click.option("--overwrite", is_flag=True, help="Replace the run that is there."),
)

model_option = click.option(
    "--model", help="The planned model: a local directory or a hub id.  [default: the one that RUN was profiled on]"
)

trust_option = click.option(
    "--trust-remote-code", is_flag=True, help="Run the Python files that come with the model. Read them first."
)

data_options = _several(
    click.option(
        "--data", required=True, help="JSONL, JSON, CSV (these also .gz) or Parquet file, dataset directory or name."
    ),
    click.option("--text-field", help="Field that holds the text, or a list of words."),
    click.option("--label-field", help="Field that holds the label, or a list of one tag a word."),
    click.option("--prompt-field", help="Field that holds the prompt, as text or messages."),
    click.option("--completion-field", help="Field that holds its completion."),
    click.option("--messages-field", help="Field that holds a conversation."),
    click.option(
        "--task",
        type=click.Choice(["causal-lm", "masked-lm", "seq2seq-lm", "sequence-classification", "token-classification"]),
        help="By default, what the data and the model suggest.",
    ),
    click.option(
        "--samples",
        type=SampleNumber(),
        default=128,
        show_default=True,
        help="Rows to profile on, or auto: until the ranking has settled, on 4096 at most (auto:N: on N at most).",
    ),
    click.option("--max-length", type=click.IntRange(2), default=256, show_default=True, help="Tokens a sample."),
)

profile_options = _several(
    click.option("--seed", type=SEED, default=0, show_default=True),
    click.option("--group", type=click.IntRange(1), default=2, show_default=True, help="Samples in a gradient's mean."),
    click.option(
        "--micro-batch", type=MicroBatchSize(), default="auto", show_default=True,
        help="Samples in one pass, or auto: as many as memory allows. Scores do not depend on it.",
    ),
    click.option(
        "--scores", type=click.Choice(["exact", "sketch", "auto"]), default="exact", show_default=True,
        help="How metrics of gradient norms are measured: sketch estimates, auto makes exact what is then undecided.",
    ),
    click.option("--spectrum", is_flag=True, help="Also find gradients' singular values, for LoRA's gain by rank."),
    click.option(
        "--directions", is_flag=True,
        help="Also write the gradients' leading singular vectors, for a gradient-aligned start and for cores.",
    ),
    click.option(
        "--warm-up", metavar="SHARE|STEPS",
        help="Then train adapters for a share of the run, such as 10%, or for so many steps: for cores, along the "
        "update's leading singular vectors, and for the metric loss_change.",
    ),
    click.option("--warm-up-rank", type=click.IntRange(1), help="Of these adapters.  [default: 128]"),
    click.option(
        "--warm-up-rate", type=click.FloatRange(0, min_open=True), help="Their learning rate.  [default: 0.04 / √rank]"
    ),
    click.option(
        "--epochs", type=click.FloatRange(0, min_open=True),
        help="Of the run that --warm-up is a share of, through the samples.  [default: 3]",
    ),
    click.option("--batch", type=click.IntRange(1), help="Samples a step, of that run too.  [default: 32]"),
    click.option("--resume", is_flag=True, help="Go on with a profile that was interrupted in RUN."),
    click.option("--compile", is_flag=True, help="Fuse what lies between linear modules; pays in long profiles."),
    click.option("--shard", is_flag=True, help="Under torchrun: spread a model that is too large over the devices."),
    click.option(
        "--check-labels/--no-check-labels", default=None,
        help="Do labels have to do with inputs? Plans are uniform where they do not. By default forward passes on some "
        "samples tell; --check-labels also trains a short warm-up where these do not.",
    ),
    click.option("--latency", is_flag=True, help="Also time what methods add to a forward pass, for latency budgets."),
    click.option("--device", help="Where to run, such as cuda:0 or cpu. By default a GPU if there is one."),
    click.option(
        "--dtype", type=click.Choice(["auto", "float32", "bfloat16", "float64"]), default="auto", show_default=True
    ),
    trust_option,
)  # fmt: skip

decision_options = _several(
    click.option(
        "--budget",
        "budgets",
        multiple=True,
        metavar="KIND=AMOUNT",
        help="Of params, flops, memory or latency: params=50k, flops=60%, memory=24GiB, latency=2ms, params=r=8. "
        "Repeatable.  [default: params=r=8]",
    ),
    click.option("--strategy", help="How to choose; see 'layerlens plugins'.  [default: tempered]"),
    click.option("--methods", help=METHODS_HELP),
    click.option("--min-rank", type=click.IntRange(1), help="Smallest LoRA rank of a trained module.  [default: 1]"),
    click.option(
        "--max-rank", type=click.IntRange(1), help="Largest LoRA rank of a module.  [default: 64; of cores 128]"
    ),
    click.option(
        "--scale", type=click.IntRange(1), help="α/r of LoRA: each module's α is its rank times this.  [default: 2]"
    ),
    click.option(
        "--granularity",
        type=click.Choice(["module", "layer"]),
        help="Whose utilities LoRA's ranks follow.  [default: the finest that the strategy knows]",
    ),
    click.option(
        "--abstain/--no-abstain",
        default=None,
        help="Plan one rank for all where the profile supports nothing else.  [default: as the strategy does]",
    ),
    click.option("--thresholds", help="Utilities, ascending, comma-separated; implies --strategy threshold."),
    click.option("--quantiles", help="Shares of the layers, ascending, comma-separated; implies --strategy threshold."),
    click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="NAME=VALUE",
        help="An option of the strategy. Repeatable.",
    ),
    click.option(
        "--penalty",
        "penalties",
        multiple=True,
        metavar="METHOD=FACTOR",
        help="Divide a method's predicted gains by a factor. Repeatable.",
    ),
    click.option(
        "--gains",
        metavar="RUN|shipped",
        help="How much each method gains by size: as the comparison of a run measured it, or as methods come with.  "
        "[default: the run's own, where it has any]",
    ),
    click.option("--batch-size", type=click.IntRange(1), help="Of the training step that costs are counted for."),
    click.option("--length", type=click.IntRange(1), help="Tokens a sample in that step."),
    click.option("--optimizer", help="In that step: adamw, adamw_8bit, momentum, lion or sgd."),
    click.option(
        "--margins/--no-margins",
        default=None,
        help="Find how far each layer's utility is from another method.  [default: where there are few candidates]",
    ),
    click.option("--normalizer", help="share, max, rank, zscore or log.  [default: share]"),
    click.option("--aggregator", help="How metrics combine; see 'layerlens plugins'.  [default: weighted-mean]"),
)

start_options = _several(
    click.option(
        "--init",
        type=click.Choice(["random", "gradient", "by-rank"]),
        default="random",
        show_default=True,
        help="How LoRA's A starts: gradient takes the leading directions in RUN, by-rank scales it by (mean/rank)^¼.",
    ),
    click.option("--seed", type=SEED, default=0, show_default=True, help="Of the adapters' initial weights."),
    trust_option,
)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")


def source_of(model: str) -> str:
    """A local directory by its full path, so that it is found again from any other; a hub id as it is."""
    return str(Path(model).resolve()) if Path(model).is_dir() else model


def parse_weights(texts: Sequence[str]) -> dict[str, float]:
    """``NAME=WEIGHT`` or ``NAME`` (weight 1), each name once."""
    error = "--metric {!r} is not of the form NAME=WEIGHT, such as fisher=0.5"
    return _numbers_by_name(texts, ScoreError, twice="metric {!r} is given twice", wrong=error, default=1.0)


def parse_penalties(texts: Sequence[str]) -> dict[str, float]:
    """``METHOD=FACTOR``, each method once."""
    error = "--penalty {!r} is not of the form METHOD=FACTOR, such as adapter=1.2"
    return _numbers_by_name(texts, PlanError, twice="the penalty of {!r} is given twice", wrong=error)


def _numbers_by_name(
    texts: Sequence[str], error: type[LayerLensError], *, twice: str, wrong: str, default: float | None = None
) -> dict[str, float]:
    """``NAME=NUMBER``, each name once.

    texts: as they were typed.
    error: the type to raise.
    twice: its message where a name is given twice.
    wrong: its message where a text cannot be read.
    default: the number of a name alone; None refuses it.
    """
    numbers: dict[str, float] = {}
    for text in texts:
        name, equals, number = text.partition("=")
        if name in numbers:
            raise error(twice.format(name))
        try:
            numbers[name] = default if default is not None and not equals else float(number)
        except ValueError:
            raise error(wrong.format(text)) from None
    return numbers


#: In place of a run, for the gain curves that methods come with.
SHIPPED = "shipped"
#: The names of `decision_options`, as commands get them.
DECISION_NAMES = (
    "budgets", "strategy", "methods", "thresholds", "quantiles", "settings", "normalizer", "aggregator", "penalties",
    "batch_size", "length", "optimizer", "margins", "granularity", "abstain", "gains", "min_rank", "max_rank", "scale",
)  # fmt: skip


def decision_arguments(given: Mapping[str, Any], before: "Training | None" = None) -> dict[str, Any]:
    """Arguments for `layerlens_core.allocate`: only those that were given.

    given: by `DECISION_NAMES`.
    before: the training step of an earlier plan; what is not given stays as it was there.
    """
    from layerlens_core.allocation.allocate import names_in
    from layerlens_core.allocation.budget import Budget
    from layerlens_core.values.costs import Training

    step = {"batch": given["batch_size"], "length": given["length"], "optimizer": given["optimizer"]}
    step = {name: value for name, value in step.items() if value is not None}
    training = attrs.evolve(before or Training(), **step) if step else None
    methods = given["methods"]
    strategy = given["strategy"]
    if strategy is None and (given["thresholds"], given["quantiles"]) != (None, None):
        strategy = "threshold"  # whose options they are
    arguments = {
        "budget": Budget.parse(given["budgets"]) if given["budgets"] else None,
        "strategy": strategy,
        "methods": names_in(methods) if methods is not None else None,
        "options": _strategy_options(given) or None,
        "normalizer": given["normalizer"],
        "aggregator": given["aggregator"],
        "penalties": parse_penalties(given["penalties"]) or None,
        "training": training,
        "margins": given["margins"],
        "granularity": given["granularity"],
        "abstain": given["abstain"],
        "min_rank": given["min_rank"],
        "max_rank": given["max_rank"],
        "scale": given["scale"],
        "gains": {} if given["gains"] == SHIPPED else given["gains"],
    }
    return {name: value for name, value in arguments.items() if value is not None}


def _strategy_options(given: Mapping[str, Any]) -> dict[str, str]:
    options: dict[str, str] = {}
    for text in given["settings"]:
        name, equals, value = text.partition("=")
        if not equals:
            raise PlanError(f"--set {text!r} is not of the form NAME=VALUE")
        options[name] = value
    named = {name: given[name] for name in ("thresholds", "quantiles")}
    return options | {name: value for name, value in named.items() if value is not None}
