"""How long a profile's warm-up is, and how it trains. Nothing here imports torch."""

import math
import re
from collections.abc import Callable
from pathlib import Path

import attrs
from attrs import field, frozen

from layerlens_core.errors import DataError, brief

#: The rank of a warm-up, where none is asked for: what it finds serves cores up to this size. Of 16, 64, 128 and 256
#: it is the best at LoRA-equivalent budgets of 1/4 and 1 (docs/evidence.md, "Cores").
RANK = 128
#: Steps below which an update hardly spans anything.
FEW = 10
#: The run that a share is of: as `layerlens_core.comparison.options` has it.
EPOCHS, BATCH = 3.0, 32


def _nowhere(_line: str) -> None:
    """Says nothing."""


@frozen(kw_only=True)
class WarmUpOptions:
    """A warm-up of LoRA on all scored modules.

    length: a share of the run, such as ``"10%"``, or a number of steps.
    rank: of every module, at most the smaller of its widths.
    rate: the learning rate once it has risen; None takes 0.04 / √rank, at which a 24 M-parameter Llama with α/r = 2
        learns the most in a tenth of a run, and a quarter of that, and so on, where the loss does not fall
        (`layerlens_core.profiling.warming.profiled`).
    epochs: of the run, through the profiled samples.
    batch: samples a step, of the run and of the warm-up.
    folder: where ``subspace.safetensors`` is written: the run's directory.
    say: gets a line before the warm-up on what it will take, and one once its first steps tell how long.
    """

    length: str | int
    rank: int = RANK
    rate: float | None = None
    epochs: float = EPOCHS
    batch: int = BATCH
    folder: Path | None = field(default=None, converter=attrs.converters.optional(Path))
    say: Callable[[str], None] = field(default=_nowhere, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        _ = self.share, self.steps
        if not (_whole(self.rank) and _whole(self.batch)):
            raise DataError(
                f"rank and batch of a warm-up are whole numbers from 1 on, but are {brief(self.rank)} and "
                f"{brief(self.batch)}"
            )
        for name, number in (("epochs", self.epochs), ("rate", self.learning_rate)):
            if isinstance(number, bool) or not isinstance(number, int | float) or not 0 < number < math.inf:
                raise DataError(f"{name} of a warm-up is a number above 0, but is {brief(number)}")

    @classmethod
    def of(cls, given: "str | int | WarmUpOptions | None", folder: str | Path | None = None) -> "WarmUpOptions | None":
        """What a caller gave, as options; None where there is to be none.

        given: a length, or options.
        folder: where to write, if the options do not tell.

        Raises `DataError` where a length cannot be read, or where nothing tells where to write.
        """
        if given is None:
            return None
        found = given if isinstance(given, cls) else cls(length=given)  # type: ignore[arg-type]
        if found.folder is None and folder is None:
            raise DataError("a warm-up writes subspace.safetensors; give run=…, the run's directory, too")
        return attrs.evolve(found, folder=found.folder or folder)

    @property
    def share(self) -> float | None:
        """Of the run; None where the length is a number of steps. Raises `DataError`."""
        if not isinstance(self.length, str) or not self.length.strip().endswith("%"):
            return None
        try:
            percent = float(self.length.strip()[:-1])
        except ValueError:
            percent = math.nan
        if math.isnan(percent):
            raise self._unreadable()
        if not 0 < percent <= 100:
            raise DataError(
                f"a warm-up of {brief(self.length)} is none; give more than 0 % and at most 100 % of the run"
            )
        return percent / 100

    @property
    def steps(self) -> int | None:
        """How many; None where the length is a share of the run. Raises `DataError`."""
        if self.share is not None:
            return None
        text = str(self.length).strip() if not isinstance(self.length, bool | float) else ""
        if not re.fullmatch(r"-?\d{1,9}", text, re.ASCII):
            raise self._unreadable()
        if int(text) < 1:
            raise DataError(f"a warm-up of {text} steps is none; give at least 1")
        return int(text)

    def _unreadable(self) -> DataError:
        return DataError(
            f"a warm-up of {brief(self.length)} is neither a share of the run, such as 10%, nor a number of steps, "
            "such as 70"
        )

    @property
    def learning_rate(self) -> float:
        """The rate once it has risen."""
        return 0.04 / math.sqrt(self.rank) if self.rate is None else self.rate

    def run_on(self, samples: int) -> int:
        """Steps of the whole run on so many samples, as a comparison counts them."""
        return max(1, round(self.epochs * (samples // self.batch)))

    def steps_on(self, samples: int) -> int:
        """Steps of the warm-up on so many samples."""
        share = self.share
        return self.steps or max(1, round((share or 0.0) * self.run_on(samples)))

    def check(self, samples: int) -> None:
        """Raises `DataError` where the samples with labels do not fill a batch."""
        if samples < self.batch:
            raise DataError(
                f"a warm-up takes batches of {self.batch} samples, but {samples} have labels; profile more of them "
                "(--samples), or take smaller batches (--batch)"
            )

    def figures(self, samples: int) -> str:
        """In words, what is trained on how much."""
        steps, run = self.steps_on(samples), self.run_on(samples)
        plural = "" if steps == 1 else "s"
        return (
            f"{steps:,} step{plural} of {self.batch} of {samples:,} samples ({steps / run:.0%} of a run of {run:,}: "
            f"{self.epochs:g} epochs), rank {self.rank}, rate {self.learning_rate:.3g}"
        )

    def doubt(self, samples: int) -> str:
        """That a share of so few samples is hardly a warm-up, and what to do; empty where it is one."""
        steps = self.steps_on(samples)
        if self.share is None or steps >= FEW:
            return ""
        return (
            f"warm-up: {steps} {'step is' if steps == 1 else 'steps are'} few, as the share is of a run on the "
            f"{samples:,} samples that are profiled: give as many --samples as you will train on, or a number of steps"
        )

    @property
    def text(self) -> str:
        """All that its numbers depend on beside model and data, to compare."""
        length = f"{self.steps} steps" if self.share is None else f"{100 * self.share:g} % of {self.epochs:g} epochs"
        return f"{length} in batches of {self.batch} at rank {self.rank} and rate {self.learning_rate:g}"


def _whole(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and number >= 1
