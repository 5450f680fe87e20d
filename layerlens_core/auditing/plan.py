"""The plan, made anew from the profile and from what was asked, with the events that this emits."""

from typing import Any

from attrs import frozen

from layerlens_core import tracing
from layerlens_core.allocation.allocate import plan_for
from layerlens_core.auditing.sheet import Sheet
from layerlens_core.errors import LayerLensError, PluginError, brief
from layerlens_core.files.documents import plain
from layerlens_core.files.run import PLAN
from layerlens_core.plugin.registry import Registry
from layerlens_core.values.plan import Plan
from layerlens_core.values.profile import Profile

#: By field of the plan, what is compared there, in the order in which it is computed.
_PARTS = {
    "request": "what was asked, as it is resolved",
    "limits": "limits",
    "decisions": "decisions and their costs",
    "cost": "totals",
    "certificate": "certificate",
    "notes": "notes",
}
_WHY = "it follows from the profile and the plan's request"


@frozen(kw_only=True)
class Replayed:
    """A plan that was made anew, and the events of that.

    plan: the plan.
    events: as a trace holds them.
    """

    plan: Plan
    events: list[dict[str, Any]]


def replay_plan(
    profile: Profile, plan: Plan, registry: Registry, sheet: Sheet, *, complete: bool = False
) -> Replayed | None:
    """Plan anew, and compare every field; None where that is not possible.

    profile: of the run.
    plan: likewise.
    registry: of providers.
    sheet: for what is found.
    complete: whether all plugins are here that were loaded when the plan was made.
    """
    try:
        with tracing.capture_events() as events:
            made = plan_for(profile, plan.request, registry=registry)
    except PluginError as error:
        if not complete:
            sheet.skip(f"{PLAN}: all that is decided", brief(error))
            return None
        why = f"all plugins are here that were loaded then, but {brief(error)}"
        sheet.find(PLAN, "request", None, None, why, "derivation")
        return None
    except (LayerLensError, ArithmeticError, ValueError, TypeError, LookupError) as error:
        # The request may have been changed into one that nobody could have asked.
        sheet.find(PLAN, "request", None, None, f"no plan can be made of it: {brief(error)}", "derivation")
        return None
    expected, found = plain(made), plain(plan)
    for name in (*_PARTS, *(name for name in expected if name not in _PARTS)):
        if name != "profile":  # which the links are about
            what = _PARTS.get(name, "the model, and what else it names")
            sheet.compare(PLAN, what, expected[name], found[name], at=name, why=_WHY)
    return Replayed(plan=made, events=events)
