"""``layerlens demo``: the main job on a real pretrained model and real text."""

import sys
import time
from pathlib import Path

import click

from layerlens_core.cli.options import SEED


@click.command("demo", short_help="Run the main job on a small model that is at hand.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/demo"), show_default=True)
@click.option("--budget", default="params=200k", show_default=True)
@click.option("--seed", type=SEED, default=0, show_default=True)
def command(out: Path, budget: str, seed: int) -> None:
    """Profile, plan, apply and train MiniLM on the docstrings of this Python's standard library."""
    from layerlens_core.cli.progress.shown import loading, progress_bar

    loading("MiniLM")
    import torch

    from layerlens_core.adaptation.apply import apply
    from layerlens_core.adaptation.attached import trainable_parameters
    from layerlens_core.allocation.allocate import allocate
    from layerlens_core.allocation.budget import Budget
    from layerlens_core.cli.run_directory import writing_run
    from layerlens_core.cli.tables import print_plan
    from layerlens_core.cli.terminal import result
    from layerlens_core.demo import run
    from layerlens_core.demo.corpus import majority_share
    from layerlens_core.files.folders import check_directory

    check_directory(out)
    asked = Budget.parse([budget])
    started = time.monotonic()
    corpus = run.read_corpus(seed)
    result(
        f"{len(corpus.training)} docstrings of the standard library to train on, {len(corpus.held_out)} held out, "
        f"from {', '.join(corpus.classes)}"
    )
    prepared = run.load_model(corpus, seed)
    with writing_run(out, "demo", {"budget": budget, "seed": seed}) as new:
        with progress_bar() as report:
            profiled = run.profile_model(prepared, seed, report)
        plan = allocate(profiled, budget=asked, weights=run.WEIGHTS)
        profiled.save(new)
        plan.save(new)
    print_plan(plan, profiled)

    held_out = run.encoded(corpus.held_out, prepared)
    before = run.accuracy(prepared.model, prepared.tokenizer, held_out)
    torch.manual_seed(seed)
    model = apply(prepared.model, plan)
    real, heads = trainable_parameters(model)
    result(f"trainable parameters: {plan.parameters:,} planned, {real:,} real, and {heads:,} in the head")
    result(f"training {run.EPOCHS} epochs with the Hugging Face Trainer …")
    run.train(model, prepared, corpus.training, out / "training", seed=seed, bars=sys.stderr.isatty())
    after = run.accuracy(model, prepared.tokenizer, held_out)
    model.save_pretrained(str(out / "adapter"))
    result()
    result(f"held-out accuracy     {before:.1%} before, {after:.1%} after training")
    result(f"always the majority   {majority_share(corpus.held_out):.1%}")
    result(f"trainable parameters  {plan.parameters:,} planned, {real:,} real")
    result(f"time                  {time.monotonic() - started:.0f} s")
    result(f"the run lies in       {out}  (profile.json, plan.json, trace.jsonl, adapter/)")
    result(f"why each layer got it layerlens explain {out} 5")
