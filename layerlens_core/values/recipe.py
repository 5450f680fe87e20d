"""What a comparison found out about training a plan: with which rate, how long, and whether to train it at all."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import frozen

from layerlens_core.errors import FileError
from layerlens_core.files import documents
from layerlens_core.files.run import PLAN, RECIPE
from layerlens_core.values.comparison import Schedule
from layerlens_core.values.plan import Plan

SCHEMA, VERSION = "layerlens/recipe", 3


@frozen(kw_only=True)
class Recipe:
    """How to train.

    plan: SHA-256 of the file of the run's plan that was compared, in hexadecimal.
    profile: likewise of the run's profile.
    comparison: likewise of the file of what was found, ``compare/comparison.json``.
    setting: digest of model, data and versions.
    rate: largest learning rate, of AdamW with a linear schedule, for the run's plan; None where none was found.
    rates: by arm and budget, the rate that it is best trained with.
    groups: by method of the plan, the rate for what it trains: of the arm of this method alone that is nearest in size,
        or the plan's where there is none.
    scale: α/r.
    schedule: that the rate was found for.
    epochs: through the training samples.
    recommended: the arm to train, by budget: ``uniform`` where nothing is shown to be better. Empty where only rates
        were looked for.
    budget: of the run's plan, as it was compared.
    sentence: what was found, in words.
    """

    plan: str
    profile: str
    comparison: str
    setting: str
    rate: float | None
    rates: Mapping[str, float]
    groups: Mapping[str, float]
    scale: float
    schedule: Schedule
    epochs: float
    recommended: Mapping[str, str]
    budget: str
    sentence: str

    @property
    def keys(self) -> dict[str, Any]:
        """Rate and schedule under the names that the Trainer gives them, which TRL and LLaMA-Factory share."""
        if self.rate is None:
            return {}
        return {
            "learning_rate": self.rate,
            "lr_scheduler_type": "linear",
            "num_train_epochs": round(self.epochs, 3),
            "warmup_steps": self.schedule.warmup,
            "per_device_train_batch_size": self.schedule.batch,
            "max_grad_norm": self.schedule.clip,
        }

    @property
    def advice(self) -> str:
        """In a line, what to train with; empty where no rate was found."""
        if self.rate is None:
            return ""
        warmup = f", {self.schedule.warmup} steps of warm-up" if self.schedule.warmup else ""
        return (
            f"train it with a learning rate of {self.rate:g}, as compare found: AdamW, linear schedule{warmup}, "
            f"{self.epochs:.3g} epochs in batches of {self.schedule.batch}{self._apart}"
        )

    @property
    def _apart(self) -> str:
        """What to do where methods want rates of their own."""
        if len(set(self.groups.values())) < 2:
            return ""
        told = ", ".join(f"{method} {rate:g}" for method, rate in self.groups.items())
        return f"; by method: {told} (ll.parameter_groups(model, run=…))"

    def save(self, run: str | Path) -> Path:
        """Write ``recipe.json`` into the run's directory.

        Raises `FileError`, where another process writes there too.
        """
        return documents.write_into(run, RECIPE, self, schema=SCHEMA, version=VERSION, sealed=True)

    @classmethod
    def load(cls, run: str | Path, plan: Plan) -> "Recipe | None":
        """The recipe of a run's plan; None where there is none.

        run: its directory.
        plan: that lies there.

        Raises `FileError` where it is damaged, or of another plan or profile.
        """
        path = Path(run) / RECIPE
        if not path.exists():
            return None
        recipe = cls.read(run)
        if (recipe.plan, recipe.profile) != (plan.digest, plan.profile):
            raise FileError(f"{path} is not the recipe of {Path(run) / PLAN}; {_again(run)}")
        return recipe

    @classmethod
    def read(cls, run: str | Path, *, broken_too: bool = False) -> "Recipe":
        """The recipe of a run, whatever plan it is of.

        run: its directory.
        broken_too: also one whose seal is broken.

        Raises `FileError` where there is none, or it is damaged.
        """
        path = Path(run) / RECIPE
        recipe = documents.read(
            path, cls, schema=SCHEMA, version=VERSION, sealed=True, broken_too=broken_too, again=_again(run)
        )
        for rate in (recipe.rate, *recipe.groups.values()):
            if rate is not None and not 0 < rate < float("inf"):
                raise FileError(f"{path} is damaged: a rate of {rate}")
        return recipe


def _again(run: str | Path) -> str:
    return f"remove it, and compare anew with: layerlens compare {run} …"
