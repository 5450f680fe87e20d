"""``layerlens apply``: an initialised adapter directory from a plan."""

from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack, cast

import click

from layerlens_core.cli.options import json_option, model_option, run_argument, start_options

if TYPE_CHECKING:
    from layerlens_core.adaptation.apply import Init
    from layerlens_core.values.plan import Plan
    from layerlens_core.values.profile import Profile, Task


one_rank_option = click.option(
    "--one-rank",
    is_flag=True,
    help="Write every LoRA at the largest rank, padded with zeros: the same function, for servers of one rank.",
)


class Start(TypedDict):
    """How an adapter is written: see the options of the same names."""

    one_rank: bool
    init: "Init"
    seed: int
    trust_remote_code: bool


@click.command("apply", short_help="Write an adapter directory that is ready to train.")
@run_argument
@model_option
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Directory of the adapter.")
@click.option("--overwrite", is_flag=True, help="Write into a directory that holds files already.")
@one_rank_option
@start_options
@json_option
def command(run: Path, model: str | None, out: Path, overwrite: bool, as_json: bool, **start: Unpack[Start]) -> None:
    """Attach the plan of RUN to the model and write the initialised adapter, in PEFT's format."""
    from layerlens_core.cli.run_directory import model_of
    from layerlens_core.cli.terminal import result, result_document
    from layerlens_core.values.plan import load_run

    plan, profile = load_run(run)
    source = model_of(run, model)
    check_free(out, source, overwrite)
    files = write_adapter(run, plan, profile, source, out, start)
    if as_json:
        result_document(adapter=str(out), files=[str(path) for path in files], parameters=plan.parameters)
    else:
        result(out)


def check_free(out: Path, model: str, overwrite: bool) -> None:
    """Raises `FileError` where a directory is the model's own, or holds files that may not be replaced.

    out: the directory to write to.
    model: a local directory or a hub id.
    overwrite: whether files there may be replaced.
    """
    from layerlens_core.errors import FileError
    from layerlens_core.files.atomic import settle
    from layerlens_core.files.folders import check_directory

    check_directory(out)
    settle(out)
    if out.resolve() == Path(model).resolve():
        raise FileError(f"{out} is the directory of the model; an adapter there would be taken for a part of it")
    there = sorted(path.name for path in out.iterdir()) if out.exists() else []
    if there and not overwrite:
        more = f" and {len(there) - 1} more" if len(there) > 1 else ""
        raise FileError(f"{out} already holds {there[0]}{more}; use --overwrite or another --out")


def write_adapter(run: Path, plan: "Plan", profile: "Profile", model: str, out: Path, start: Start) -> tuple[Path, ...]:
    """Load the model, apply the plan of the run, write the adapter whole or not at all; returns its files."""
    from layerlens_core.cli.progress.shown import loading

    loading(model)
    import torch

    from layerlens_core.adaptation.apply import apply, check_applicable, read_directions_of
    from layerlens_core.adaptation.attached import trainable_parameters
    from layerlens_core.adaptation.cores.compact import save_compact
    from layerlens_core.adaptation.cores.subspaces import read_subspace_of
    from layerlens_core.adaptation.saved.card import PEFT_TASKS, write_card
    from layerlens_core.cli.terminal import say
    from layerlens_core.data.model import load
    from layerlens_core.data.target import Target
    from layerlens_core.files.atomic import filling
    from layerlens_core.values.plan import CORE
    from layerlens_core.values.recipe import Recipe

    check_applicable(plan)
    if start["one_rank"]:
        check_one_rank(plan)
    read_directions_of(plan, start["init"], run)
    read_subspace_of(plan, run)
    trusted, seed = start["trust_remote_code"], start["seed"]
    task, target = cast("Task", profile.task), Target.of_profile(profile.labels, profile.settings)
    loaded = load(model, task, target=target, seed=seed, trust_remote_code=trusted).model
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        wrapped = apply(loaded, plan, init=start["init"], directions=run, one_rank=start["one_rank"])
    config = wrapped.peft_config["default"]
    config.task_type = PEFT_TASKS.get(profile.task)
    if Path(model).is_dir():
        # By its full path, so that the adapter finds its base from any directory.
        config.base_model_name_or_path = str(Path(model).resolve())
    with filling(out) as staging:
        wrapped.save_pretrained(str(staging))
        if alone := {decision.method for decision in plan.decisions} <= {CORE, "none"}:
            save_compact(wrapped, staging, subspace=run)
        write_card(staging, plan, profile, model)
        names = sorted(path.name for path in staging.iterdir())
    adapters, heads = trainable_parameters(wrapped)
    say(f"{adapters:,} trainable parameters, as planned" + (f", and {heads:,} in the head" if heads else ""))
    if (recipe := Recipe.load(run, plan)) is not None and recipe.advice:
        say(recipe.advice)
    if CORE in {decision.method for decision in plan.decisions}:
        trains = "layerlens_core.load(model, directory, trainable=True)" if alone else "layerlens_core.apply"
        say(f"{trains} trains the cores; what PEFT loads is the LoRA that they are, in which it would train A and B")
    elif config.padded_rank is not None:
        say(f"written at one rank, {config.padded_rank}, padded with zeros; PEFT counts these among what trains")
    return tuple(out / name for name in names)


def check_one_rank(plan: "Plan") -> None:
    """Raises `PlanError` where a plan cannot be written at one rank."""
    from layerlens_core.errors import PlanError
    from layerlens_core.plugin.export import other_methods

    if others := other_methods(plan):
        raise PlanError(f"--one-rank is for plans of LoRA alone, but this one has {', '.join(others)}")
    if any("experts" in plan.shapes[name] for name, size in plan.sizes("lora-experts").items() if size):
        raise PlanError("--one-rank is for LoRA on linear modules, but this plan has it on stacked experts too")
