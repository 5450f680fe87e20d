"""``layerlens compare``: what a plan is worth beside uniform LoRA, and which rank and which rate the data want."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from layerlens_core.cli.options import SEED, json_option, model_option, run_argument, trust_option
from layerlens_core.errors import ComparisonError

if TYPE_CHECKING:
    from layerlens_core.comparison.options import CompareOptions


@click.command("compare", short_help="Train the plan beside uniform LoRA: is it better, which rank, which rate?")
@run_argument
@model_option
@click.option("--data", required=True, help="JSONL, CSV or Parquet file, dataset directory or name, to train on.")
@click.option("--eval", "held_out", help="Likewise, to judge on. By default a fifth of the data is held out.")
@click.option(
    "--arms",
    default="plan",
    show_default=True,
    help="What to train beside uniform, comma-separated: plan, shuffled, mlp-only, attention-only, top-half, gora, …",
)
@click.option("--budgets", metavar="r=1,2,4,8", help="By default the plan's own.")
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True, help="Runs of every arm.")
@click.option("--lr", "rates", default="auto", show_default=True, help="auto, or learning rates, comma-separated.")
@click.option("--only", type=click.Choice(["lr"]), help="Find the learning rates, and train nothing in full.")
@click.option("--epochs", type=click.FloatRange(0, min_open=True), default=3.0, show_default=True)
@click.option("--steps", type=click.IntRange(1), help="Of the optimizer, in place of epochs.")
@click.option("--batch", type=click.IntRange(1), default=32, show_default=True, help="Samples a step.")
@click.option("--warmup", type=click.FloatRange(0, 1), default=0.0, show_default=True, help="Share of the steps.")
@click.option("--max-length", type=click.IntRange(2), default=256, show_default=True, help="Tokens a sample.")
@click.option("--samples", type=click.IntRange(2), help="Rows to train on at most. By default all.")
@click.option("--tolerance", default="1%", show_default=True, help="Within which a budget is as good as the best.")
@click.option("--compile", is_flag=True, help="Fuse what lies between linear modules; pays on a GPU.")
@click.option("--join", is_flag=True, help="Share the work with other processes that are given the same command.")
@click.option("--ray", is_flag=True, help="Do the work on a cluster of Ray (RAY_ADDRESS), or by its workers here.")
@click.option("--device", help="Where to run, such as cuda:0 or cpu. By default a GPU if there is one.")
@click.option(
    "--dtype", type=click.Choice(["auto", "float32", "bfloat16", "float64"]), default="auto", show_default=True
)
@click.option("--seed", type=SEED, default=0, show_default=True)
@click.option("--picture", type=click.Path(path_type=Path), help="Also write the picture, as .svg or .png.")
@click.option("--overwrite", is_flag=True, help="Drop the results that are there.")
@trust_option
@json_option
def command(run: Path, **given: Any) -> None:
    """Train the plan of RUN beside uniform LoRA on one frozen model, each at its own best rate, and judge.

    Runs are kept in RUN/compare: the same command goes on where it stopped. What is found goes into RUN/recipe.json.
    """
    from layerlens_core.cli.comparing.work import compare_run, print_comparison
    from layerlens_core.cli.run_directory import model_of
    from layerlens_core.data.source import check_data, check_source
    from layerlens_core.values.plan import load_run

    options = options_of(given)
    if given["join"] and given["ray"]:
        raise ComparisonError("--join and --ray are two ways to share the work; give one of them")
    if given["join"] and given["overwrite"]:
        raise ComparisonError("--overwrite drops what other processes have done; use it alone, then --join")
    if given["picture"] is not None:
        from layerlens_core.comparison.judging.picture import check_picture

        check_picture(given["picture"])
    planned = load_run(run)
    given["model"] = model_of(run, given["model"])
    check_source(given["model"])
    check_data(given["data"])
    if given["held_out"] is not None:
        check_data(given["held_out"])
    comparison = compare_run(run, planned, options, given)
    print_comparison(comparison, run, as_json=given["as_json"], picture=given["picture"])


def options_of(given: dict[str, Any]) -> "CompareOptions":
    """The options as the library takes them. Raises `ComparisonError` for what cannot be read."""
    from layerlens_core.comparison.options import CompareOptions

    return CompareOptions(
        arms=tuple(name.strip() for name in given["arms"].split(",") if name.strip()),
        budgets=budgets_in(given["budgets"] or ""),
        seeds=given["seeds"],
        rates=rates_in(given["rates"]),
        epochs=given["epochs"],
        steps=given["steps"],
        batch=given["batch"],
        warmup=given["warmup"],
        tolerance=share_in(given["tolerance"]),
        compile=given["compile"],
        only=given["only"],
        seed=given["seed"],
    )


def budgets_in(text: str) -> tuple[str, ...]:
    """Budgets with commas between them, where what stands before ``=`` may be written once: ``r=1,2,4``."""
    found: list[str] = []
    for part in filter(None, map(str.strip, text.split(","))):
        if "=" not in part and found:
            part = f"{found[-1].rpartition('=')[0]}={part}"
        found.append(part)
    return tuple(found)


def rates_in(text: str) -> Any:
    """``auto``, or rates in ascending order."""
    if text == "auto":
        return "auto"
    try:
        rates = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ComparisonError(f"--lr {text} is neither auto nor numbers with commas between them") from None
    if any(not 0 < rate < float("inf") for rate in rates) or list(rates) != sorted(set(rates)):
        raise ComparisonError(f"--lr {text}: rates must be above 0, ascending, and each given once")
    return rates


def share_in(text: str) -> float:
    """A share, as ``1%`` or ``0.01``."""
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        raise ComparisonError(f"--tolerance {text} is no share, such as 1% or 0.01") from None
    if not 0 <= share < 1:
        raise ComparisonError(f"--tolerance {text} must be from 0 to below 1")
    return share
