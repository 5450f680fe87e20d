"""From the arms of a comparison to gain curves of methods: every layer by one method, at several sizes."""

from collections.abc import Mapping, Sequence
from statistics import fmean

from layerlens_core.allocation.gains import Measured, fit
from layerlens_core.comparison.arms.uniform import LORA, NOTHING
from layerlens_core.comparison.judging.judgement import UNIFORM, Verdict
from layerlens_core.errors import PlanError, brief
from layerlens_core.plugin.registry import Registry, default
from layerlens_core.values.comparison import Arm, Setting
from layerlens_core.values.gains import Gains
from layerlens_core.values.profile import Profile

#: Before the name of a method, the arm that is that method at one size in all layers.
PREFIX = "method:"
#: Times what a curve misses, a method has to gain at its best: else it cannot be told from one that gains nothing.
CLEAR = 2


def measured(
    arms: Sequence[Arm], verdict: Verdict, setting: Setting, profile: Profile, registry: Registry | None = None
) -> tuple[Gains | None, str | None]:
    """The curves that a comparison gives, or why it gives none; neither where no method's arm was asked for.

    Every arm counts with its mean loss over seeds at its best rate, beside the loss of ``none``; those that diverged
    are left out, and so are methods whose curve misses as much as they gain. ``uniform`` is LoRA's arm where
    ``method:lora`` is not there.

    arms: that were trained.
    verdict: on them.
    setting: of the comparison.
    profile: of the run.
    registry: of providers.
    """
    methods = {arm.name.removeprefix(PREFIX) for arm in arms if arm.name.startswith(PREFIX)}
    if not methods:
        return None, None
    losses = {each.key: each.loss for each in verdict.judged}
    nothing = next((losses.get(arm.key) for arm in arms if arm.name == NOTHING), None)
    if nothing is None:
        return None, f"no gain curves: there is no loss of {NOTHING}, which all methods gain from"
    named = {f"{PREFIX}{method}": method for method in methods}
    if LORA not in methods:
        named[UNIFORM] = LORA
    found = [
        Measured(
            method=named[arm.name],
            notches=notches(arm, named[arm.name], registry),
            loss=loss,
            none=nothing,
            setting=setting.id,
        )
        for arm in arms
        if arm.name in named and (loss := losses.get(arm.key)) is not None
    ]
    seeds = min(len(each.seeds) for each in verdict.judged)
    source = f"measured by {len(found)} arms of the comparison {setting.id}, means of {seeds} seed{'s' * (seeds > 1)}"
    try:
        vague = {
            name for name, curve in fit(found, source).items() if not curve.ceiling > CLEAR * (curve.spread or 0.0)
        }
        curves = fit([each for each in found if each.method not in vague], source)
    except PlanError as error:
        return None, f"no gain curves: {brief(error)}"
    return Gains(curves=curves, setting=setting.id, profile=profile.digest), _left_out(methods - curves.keys())


def notches(arm: Arm, method: str, registry: Registry | None = None) -> float:
    """The size of an arm that trains one method everywhere, in notches of it: the mean over its places.

    arm: of one method.
    method: its name.
    registry: of providers.
    """
    notch: int = (registry or default()).load("method", method).notch
    sizes: Mapping[str, int] = arm.sizes[method]
    return fmean(sizes.values()) / notch


def _left_out(methods: set[str]) -> str | None:
    if not methods:
        return None
    return (
        f"no gain curve of {', '.join(sorted(methods))}: a curve takes two sizes or more and gains beyond its misses; "
        "longer runs, or rates that are found (--lr auto), may give one"
    )
