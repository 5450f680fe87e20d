"""``layerlens demo``: the main job on a real pretrained model and real text."""

from pathlib import Path

import click

from layerlens_core.cli.options import SEED


@click.command("demo", short_help="Run the main job on a small model that is at hand.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/demo"), show_default=True)
@click.option("--budget", default="params=200k", show_default=True)
@click.option("--seed", type=SEED, default=0, show_default=True)
def command(out: Path, budget: str, seed: int) -> None:
    """Profile, plan, apply and train MiniLM on the docstrings of this Python's standard library."""
    from layerlens_core.demo.run import run

    run(out, budget=budget, seed=seed)
