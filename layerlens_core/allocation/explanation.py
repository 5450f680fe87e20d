"""Why a layer got its method and size: the numbers of the trace, and what would change it, decided anew; no model."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from attrs import frozen

from layerlens_core import tracing
from layerlens_core.allocation import margins
from layerlens_core.allocation.problem import pose
from layerlens_core.allocation.trace_of import Event, check_trace
from layerlens_core.errors import FileError, PlanError, nearest
from layerlens_core.values.gains import GainCurve
from layerlens_core.values.plan import Plan, load_run
from layerlens_core.values.profile import Profile

#: Changes of the inputs are tried for this long.
SECONDS = 10.0


@frozen(kw_only=True)
class Explanation:
    """The events of a run's trace that led to one layer's decision.

    layer: its full name.
    decision: the event of the decision.
    utility: raw and normalised scores, weights and utility; None for a layer that was not scored.
    modules: raw scores by metric and module.
    units: by metric, what its raw scores are measured in.
    thresholds: the event of the thresholds; None for strategies without.
    refused: what the layer would have got, and why not.
    budget: what was asked for, allowed and spent.
    flips: changes of the layer's utility, of penalties and of the budget after which the layer gets another method;
        each was tried.
    untried: changes for which there was no time.
    without_margins: why the plan says of no layer how far it is from another method; None where it does.
    gains: by method, measured curves by which gains were predicted in place of the methods' own.
    """

    layer: str
    decision: Event
    utility: Event | None
    modules: Mapping[str, Mapping[str, float]]
    units: Mapping[str, str]
    thresholds: Event | None
    refused: Sequence[Event]
    budget: Event
    flips: Sequence[str]
    untried: Sequence[str]
    without_margins: str | None
    gains: Mapping[str, GainCurve]


def explain(run: Path, layer: str) -> Explanation:
    """Explain one layer of a run.

    run: the run's directory.
    layer: its full name, a unique ending of it, or its number in the plan.

    Raises `PlanError` where no layer or several match, and `FileError` where the trace is incomplete or is not the
    plan's.
    """
    plan, profile = load_run(run)
    name = find_layer(plan, layer)
    by_kind = check_trace(tracing.read(run), plan, profile, run)

    def of_kind(kind: str) -> Sequence[Event]:
        return by_kind.get(kind, ())

    decided = [event for event in of_kind("decision.made") if event["unit"] == name]
    modules: dict[str, dict[str, float]] = {}
    units: dict[str, str] = {}
    for event in of_kind("metric.scored"):
        units[event["metric"]] = event["measure"]
        if event["unit"].startswith(f"{name}.") and event["granularity"] == "module":
            modules.setdefault(event["metric"], {})[event["unit"]] = event["raw"]
    thresholds = of_kind("thresholds.set")
    flips, untried = _flips(profile, plan, name)
    return Explanation(
        layer=name,
        decision=decided[-1],
        utility=next((event for event in of_kind("utility.computed") if event["unit"] == name), None),
        modules=modules,
        units=units,
        thresholds=thresholds[-1] if thresholds else None,
        refused=[event for event in of_kind("candidate.refused") if event["unit"] == name],
        budget=of_kind("budget.settled")[-1],
        flips=flips,
        untried=untried,
        without_margins=_cause(of_kind("margins.left_out")),
        gains=plan.request.gains,
    )


def without_margins(run: Path) -> str | None:
    """Why the plan of a run has no margins, as its trace tells; None where it has, or where there is no trace."""
    try:
        return _cause([event for event in tracing.read(run) if event["event"] == "margins.left_out"])
    except FileError:
        return None


def _cause(left_out: Sequence[Event]) -> str | None:
    return str(left_out[-1]["cause"]) if left_out else None


def _flips(profile: Profile, plan: Plan, layer: str) -> tuple[list[str], list[str]]:
    """What would change the layer's method, found by deciding again from the profile; and what was not tried."""
    with tracing.silenced():
        problem = pose(profile, plan.request)
    decision = next(decision for decision in plan.decisions if decision.unit == layer)
    if layer not in problem.candidates.by_name:
        return [], []
    decide = margins.within(problem.trial(layer), SECONDS)
    arguments = problem.candidates, problem.limits, decision
    found: list[margins.Flip] = []
    untried = []
    for what, flips in (
        ("its utility", lambda: [margins.utility_flip(decide, *arguments)]),
        ("penalties", lambda: margins.penalty_flips(decide, *arguments)),
        ("the budget", lambda: margins.budget_flips(decide, *arguments)),
    ):
        try:
            found += [flip for flip in flips() if flip is not None]
        except margins.OutOfTime:
            untried.append(what)
    return [margins.describe(flip, problem.limits, decision.utility) for flip in found], untried


def find_layer(plan: Plan, text: str) -> str:
    """The full name of a layer.

    plan: that decides on the layer.
    text: its full name, a unique ending of it, or its number in the plan.

    Raises `PlanError` where no layer or several match.
    """
    names = [decision.unit for decision in plan.decisions]
    if text in names:
        return text
    matches = [name for name in names if name.endswith(f".{text}")]
    if len(matches) == 1:
        return matches[0]
    if text.isdecimal() and int(text) < len(names):
        return names[int(text)]
    if matches:
        raise PlanError(f"{text!r} is the ending of several layers: {', '.join(matches)}")
    known = f"{names[0]} to {names[-1]} (0 to {len(names) - 1})" if names else "none"
    raise PlanError(f"the plan has no layer {text!r}; it has {known}.{nearest(text, names)}")
