"""``layerlens estimate``: what training a model would take, before there are weights or data."""

from typing import Any

import click

from layerlens_core.cli.options import json_option, trust_option
from layerlens_core.values.costs import DTYPE_BYTES, OPTIMIZER_BYTES, Training


@click.command("estimate", short_help="Predict what training takes, from a configuration alone.")
@click.argument("model")
@click.option(
    "--budget", "budgets", multiple=True, metavar="KIND=AMOUNT",
    help="Of memory, params or flops: memory=24GiB, memory=40%, flops=60%. Repeatable.",
)  # fmt: skip
@click.option("--batch-size", "batch", type=click.IntRange(1), default=Training().batch, show_default=True,
              help="Samples a step.")  # fmt: skip
@click.option("--length", type=click.IntRange(2), default=Training().length, show_default=True,
              help="Tokens a sample.")  # fmt: skip
@click.option("--optimizer", type=click.Choice(list(OPTIMIZER_BYTES)), default=Training().optimizer,
              show_default=True)  # fmt: skip
@click.option("--dtype", type=click.Choice(list(DTYPE_BYTES)),
              help="Of weights and activations.  [default: the configuration's]")  # fmt: skip
@click.option("--checkpointing", is_flag=True, help="Keep only the inputs of layers, and compute layers twice.")
@click.option(
    "--task",
    type=click.Choice(["causal-lm", "masked-lm", "seq2seq-lm", "sequence-classification", "token-classification"]),
    help="Which head the model gets.  [default: that of the configuration's class]",
)
@trust_option
@json_option
def command(model: str, budgets: tuple[str, ...], as_json: bool, trust_remote_code: bool, **given: Any) -> None:
    """Predict parameters, FLOPs and memory of uniform LoRA at each rank and of full fine-tuning.

    MODEL is a directory with a config.json, or a hub id. No weights are loaded, and no data is needed.

    \b
    layerlens estimate path/to/model --budget memory=24GiB
    layerlens estimate path/to/model --budget memory=24GiB --batch-size 1 --length 2048 --checkpointing
    """
    import json

    from layerlens_core.allocation.budget import Budget
    from layerlens_core.cli.terminal import result_json
    from layerlens_core.data.source import check_source

    checkpointing, task = given.pop("checkpointing"), given.pop("task")
    training = Training(**given)
    budget = Budget.parse(budgets)
    check_source(model)  # and the budget, before torch is imported, which takes seconds
    from layerlens_core.estimating.estimate import estimate

    found = estimate(
        model,
        budget=budget,
        training=training,
        checkpointing=checkpointing,
        task=task,
        trust_remote_code=trust_remote_code,
    )
    if as_json:
        result_json(json.dumps(found.to_json(), indent=2, ensure_ascii=False))
    else:
        from layerlens_core.cli.estimating.table import print_estimate

        print_estimate(found, budget)
