"""What is compared, and how long arms train. Nothing here imports torch."""

from typing import Literal

from attrs import frozen

from layerlens_core.values.comparison import Schedule


@frozen(kw_only=True)
class CompareOptions:
    """What is compared, and how long arms train.

    arms: names, as `make_arms` takes them; ``uniform`` is always one, ``none`` beside any ``method:NAME``, and
        ``strategy:uniform`` beside a plan that more than parameters bounds, at its own budget.
    budgets: as typed; by default the plan's own (`layerlens_core.comparison.arms.budgets.own_budget`).
    seeds: how many runs every arm has.
    rates: ``auto``, or one or several rates, of which each arm gets its best.
    epochs: through the training samples, where ``steps`` is not given.
    steps: of the optimizer.
    batch: samples a step.
    warmup: share of the steps in which the rate rises.
    clip: largest norm of a gradient; 0 clips nothing.
    tolerance: within which a budget is as good as the best.
    confidence: of intervals and tests.
    compile: compile what lies between linear modules.
    only: ``lr`` finds the rates and trains nothing in full.
    seed: of what is drawn beside the arms' seeds: which samples are held out, what rules draw.
    """

    arms: tuple[str, ...] = ("plan",)
    budgets: tuple[str, ...] = ()
    seeds: int = 3
    rates: Literal["auto"] | tuple[float, ...] = "auto"
    epochs: float = 3.0
    steps: int | None = None
    batch: int = 32
    warmup: float = 0.0
    clip: float = 1.0
    tolerance: float = 0.01
    confidence: float = 0.95
    compile: bool = False
    only: Literal["lr"] | None = None
    seed: int = 0

    def schedule(self, samples: int) -> Schedule:
        """The whole runs' schedule.

        samples: to train on.
        """
        batch = min(self.batch, samples)
        steps = self.steps or max(1, round(self.epochs * (samples // batch)))
        return Schedule(steps=steps, batch=batch, warmup=round(self.warmup * steps), clip=self.clip)
