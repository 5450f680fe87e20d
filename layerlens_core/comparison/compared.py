"""What a comparison found, as a file."""

from attrs import frozen

from layerlens_core.comparison.arms.make import Dropped
from layerlens_core.comparison.judging.judgement import Verdict
from layerlens_core.comparison.rate_search import Curve
from layerlens_core.lazy import imported
from layerlens_core.values.comparison import Arm, Schedule
from layerlens_core.values.gains import Gains

#: The file, beside the results.
COMPARED = "comparison.json"
SCHEMA, VERSION = "layerlens/comparison", 1


@frozen(kw_only=True)
class Comparison:
    """What was compared, and what came of it.

    setting: digest of what all runs share.
    samples: that arms were trained on.
    schedule: of the whole runs.
    arms: that were trained.
    dropped: arms that could not be, and why.
    curves: how the rate of each arm was found, where it was.
    verdict: none where only rates were asked for.
    notes: what else a reader has to know.
    gains: how much each method gains by size, where arms of several sizes were trained for that.
    """

    setting: str
    samples: int
    schedule: Schedule
    arms: tuple[Arm, ...]
    dropped: tuple[Dropped, ...] = ()
    curves: tuple[Curve, ...] = ()
    verdict: Verdict | None = None
    notes: tuple[str, ...] = ()
    gains: Gains | None = None

    def _repr_html_(self) -> str:
        """What was measured, as notebooks show it (`layerlens_core.reporting.notebook`)."""
        return str(imported("reporting.notebook", "of_comparison")(self))

    def rate(self, arm: str) -> float | None:
        """The rate that an arm is best trained with; None where none was found.

        arm: its key.
        """
        if self.verdict is not None:
            return next((each.rate for each in self.verdict.judged if each.key == arm), None)
        return next((curve.rate for curve in self.curves if curve.arm == arm), None)
