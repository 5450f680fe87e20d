"""Whether a trace is that of the plan and the profile beside it, in every number that an explanation shows."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from layerlens_core.errors import FileError
from layerlens_core.files.run import PLAN, PROFILE, TRACE
from layerlens_core.values.plan import Plan
from layerlens_core.values.profile import Profile

Event = Mapping[str, Any]
#: What is compared of a decision; its words are the trace's own.
_DECIDED = ("method", "size", "utility", "parameters", "margin")


def check_trace(events: Sequence[Event], plan: Plan, profile: Profile, run: Path) -> Mapping[str, Sequence[Event]]:
    """The events of a run by their kind. Raises `FileError` where they are not of its plan, or not of its profile.

    events: as `layerlens_core.tracing.read` gives them.
    plan: of the run.
    profile: of the run.
    run: its directory.
    """
    by_kind: dict[str, list[Event]] = {}
    for event in events:
        by_kind.setdefault(event["event"], []).append(event)
    if not _is_of_plan(by_kind, plan):
        raise FileError(f"{run / TRACE} is not the trace of {run / PLAN}; plan anew with: layerlens allocate {run}")
    if not _is_of_profile(by_kind, profile):
        raise FileError(f"{run / TRACE} is not the trace of {run / PROFILE}; profile anew with --overwrite")
    return by_kind


def _is_of_plan(by_kind: Mapping[str, Sequence[Event]], plan: Plan) -> bool:
    made, settled = by_kind.get("plan.made", ()), by_kind.get("budget.settled", ())
    if not made or not settled or made[-1]["digest"] != plan.digest:
        return False
    spent = {name: getattr(plan.cost, name) for name in settled[-1]["spent"]}
    if (settled[-1]["limits"], settled[-1]["spent"]) != (plan.limits.bounds, spent):
        return False
    decided = {event["unit"]: event for event in by_kind.get("decision.made", ())}
    utilities = {event["unit"]: event["utility"] for event in by_kind.get("utility.computed", ())}
    for decision in plan.decisions:
        if (event := decided.get(decision.unit)) is None:
            return False
        told = {name: getattr(decision, name) for name in _DECIDED} | {"sizes": dict(decision.sizes)}
        if {name: event[name] for name in told} != told:
            return False
        if utilities.get(decision.unit, decision.utility) != decision.utility:
            return False
    return True


def _is_of_profile(by_kind: Mapping[str, Sequence[Event]], profile: Profile) -> bool:
    for event in by_kind.get("profile.finished", ()):
        told = (event["digest"], event["task"], event["samples"], event["loss"], event["data"])
        if told != (profile.digest, profile.task, profile.samples, profile.loss, profile.data):
            return False
    scores = {each.metric: each for each in profile.scores}
    for event in by_kind.get("metric.scored", ()):
        found = scores.get(event["metric"])
        if found is None or found.values.get(event["unit"]) != event["raw"] or found.unit != event["measure"]:
            return False
    return True
