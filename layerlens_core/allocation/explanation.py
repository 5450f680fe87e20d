"""Why a layer got its method and size: the numbers of the trace, and what would change it, decided anew; no model."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from attrs import frozen

from layerlens_core import tracing
from layerlens_core.allocation import margins
from layerlens_core.allocation.allocate import plan_for
from layerlens_core.allocation.derivation.sizing import Sized, sizing
from layerlens_core.allocation.problem import Problem, pose
from layerlens_core.allocation.trace_of import Event, check_trace
from layerlens_core.errors import FileError, PlanError, nearest
from layerlens_core.files.run import TRACE
from layerlens_core.plugin.registry import Registry
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
    sizing: what every module of it holds, and what that follows from.
    bounds: sentences on what bounds these sizes.
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
    sizing: Sequence[Sized] = ()
    bounds: Sequence[str] = ()

    def __str__(self) -> str:
        return "\n".join(_lines(self))


def explain(
    run: str | Path | Plan, layer: str | int, *, profile: Profile | None = None, registry: Registry | None = None
) -> Explanation:
    """Why one layer got its method and size; ``print`` shows it, and its fields have the numbers.

    run: the directory of a run, or a plan that was made in this process. Where a run has no trace, as ``Plan.save`` and
        `Profile.save` write none, the plan is made once more to see how it came about.
    layer: its full name, a unique ending of it, or its number in the plan.
    profile: that a plan was made from; only beside a plan.
    registry: of providers, as in `layerlens_core.allocate`.

    Raises `PlanError` where no layer or several match, where the profile is missing or another one, or where the plan
    does not follow from it; and `FileError` where the trace is incomplete or is not the plan's.
    """
    if isinstance(run, Plan):
        plan = run
        if profile is None:
            raise PlanError("a plan does not hold its profile; give it too, as explain(plan, layer, profile=profile)")
        plan.check_profile(profile)
        trace = None
    else:
        run = Path(run)
        plan, profile = load_run(run)
        trace = tracing.read(run) if (run / TRACE).exists() else None
    name = find_layer(plan, str(layer))
    if trace is not None and isinstance(run, Path):
        by_kind = check_trace(trace, plan, profile, run)
    else:
        by_kind = _made_anew(plan, profile, registry)

    def of_kind(kind: str) -> Sequence[Event]:
        return by_kind.get(kind, ())

    decided = [event for event in of_kind("decision.made") if event["unit"] == name]
    modules: dict[str, dict[str, float]] = {}
    units: dict[str, str] = {}
    for scores in profile.scores:  # which are the trace's own, as was checked
        units[scores.metric] = scores.unit
        own = {unit: raw for unit, raw in scores.values.items() if unit.startswith(f"{name}.")}
        if own and scores.granularity == "module":
            modules[scores.metric] = own
    thresholds = of_kind("thresholds.set")
    with tracing.silenced():
        problem = pose(profile, plan.request, registry)
    flips, untried = _flips(problem, plan, name)
    sized, bounds = sizing(problem, plan, name)
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
        sizing=sized,
        bounds=bounds,
    )


def without_margins(run: Path) -> str | None:
    """Why the plan of a run has no margins, as its trace tells; None where it has, or where there is no trace."""
    try:
        return _cause([event for event in tracing.read(run) if event["event"] == "margins.left_out"])
    except FileError:
        return None


def _cause(left_out: Sequence[Event]) -> str | None:
    return str(left_out[-1]["cause"]) if left_out else None


def _made_anew(plan: Plan, profile: Profile, registry: Registry | None) -> Mapping[str, Sequence[Event]]:
    """The events of making a plan once more, by their kind. Raises `PlanError` where another plan comes of it."""
    with tracing.capture_events() as events:
        made = plan_for(profile, plan.request, registry=registry)
    if made.decisions != plan.decisions:
        differing = next(
            (one.unit for one, other in zip(plan.decisions, made.decisions, strict=False) if one != other), "its layers"
        )
        raise PlanError(
            f"this plan does not follow from its profile and request with what is installed: {differing} would be "
            "decided otherwise; allocate anew"
        )
    by_kind: dict[str, list[Event]] = {}
    for event in events:
        by_kind.setdefault(event["event"], []).append(event)
    return by_kind


def _lines(explanation: Explanation) -> list[str]:
    """An explanation in plain words."""
    decision, scored = explanation.decision, explanation.utility
    lines = [f"{explanation.layer}: {decision['method']}, {decision['parameters']:,} parameters"]
    if scored is not None:
        raw = ", ".join(
            f"{metric} {value:.4g}"
            + (f" {unit}" if (unit := explanation.units.get(metric, "")) not in ("", "1") else "")
            for metric, value in scored["raw"].items()
        )
        lines.append(f"utility {scored['utility']:.6f}, from {raw}")
    lines.append(f"method: {decision['reason']}")
    lines += [f"refused: {event['method']}, because {event['cause']}" for event in explanation.refused]
    lines += [f"it would be {flip}" for flip in explanation.flips]
    for each in explanation.sizing:
        alpha = f" (α {each.alpha})" if each.alpha is not None else ""
        lines.append(f"{each.module}: {each.size}{alpha}, {each.parameters:,} parameters")
    return lines + list(explanation.bounds)


def _flips(problem: Problem, plan: Plan, layer: str) -> tuple[list[str], list[str]]:
    """What would change the layer's method, found by deciding again from the profile; and what was not tried."""
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
