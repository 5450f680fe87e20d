"""All that a run's directory tells, and what follows from it without the model."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from attrs import field, frozen

from layerlens_core import tracing
from layerlens_core.allocation.problem import Problem, pose
from layerlens_core.allocation.trace_of import check_trace
from layerlens_core.comparison.compared import COMPARED, SCHEMA, VERSION, Comparison
from layerlens_core.comparison.jobs.store import COMPARISON
from layerlens_core.comparison.judging.judgement import Verdict
from layerlens_core.errors import FileError, LayerLensError, brief
from layerlens_core.files import documents
from layerlens_core.files.run import RECIPE
from layerlens_core.reporting.frontier import Frontier, frontier
from layerlens_core.values.plan import Plan, load_run
from layerlens_core.values.profile import Profile
from layerlens_core.values.recipe import Recipe

Event = Mapping[str, Any]
T = TypeVar("T")


@frozen(kw_only=True)
class Gathered:
    """A run, as a report shows it.

    name: of its directory.
    plan, profile: of the run.
    problem: that the plan solves, posed anew; None where that is not possible here.
    frontier: predicted gain at other budgets; None where the problem is not known, or nothing is bounded.
    events: of its trace, by kind; empty without one.
    comparison: what was measured of it, where it was compared.
    recipe: how to train it, where that was found.
    earlier: whether the comparison is of an earlier plan of the same run.
    lacking: sentences on what is not shown, and why.
    """

    name: str
    plan: Plan
    profile: Profile
    problem: Problem | None = None
    frontier: Frontier | None = None
    events: Mapping[str, Sequence[Event]] = field(factory=dict)
    comparison: Comparison | None = None
    recipe: Recipe | None = None
    earlier: bool = False
    lacking: tuple[str, ...] = ()

    @property
    def importance(self) -> Mapping[str, float]:
        """The modules' own utilities by name; empty where none are known."""
        if self.problem is None:
            return {}
        return {
            name: value
            for unit in self.problem.candidates.units
            if any(unit.importance.values())
            for name, value in unit.importance.items()
        }

    @property
    def verdict(self) -> Verdict | None:
        """Of the comparison; None where there is none, or only rates were looked for."""
        return None if self.comparison is None else self.comparison.verdict

    @property
    def started(self) -> Event | None:
        """The event of the command that planned."""
        found = self.events.get("run.started", ())
        return found[-1] if found else None


def gather(run: Path) -> Gathered:
    """Read a run.

    run: its directory.

    Raises `FileError` where there is no profile or plan, where they are damaged, or files do not belong together. A
    missing trace, a comparison that cannot be read, and a plugin that is not installed are told instead.
    """
    plan, profile = load_run(run)
    lacking: list[str] = []
    events: Mapping[str, Sequence[Event]] = {}
    try:
        read = tracing.read(run)
    except FileError as error:
        lacking.append(f"no trace: {brief(error)}; normalised scores are computed anew from the profile")
    else:
        events = check_trace(read, plan, profile, run)
    problem = found = None
    try:
        with tracing.silenced():
            problem = pose(profile, plan.request)
            found = frontier(problem, plan.decisions)
        if found is not None and found.untried:
            lacking.append(
                f"{found.untried} budgets of the frontier were not tried: {plan.request.strategy} takes long to decide"
            )
    except LayerLensError as error:
        lacking.append(f"no frontier and no scores of single modules, as the plan cannot be posed anew: {brief(error)}")
    recipe = _read(lambda: Recipe.load(run, plan), lacking)
    comparison = _read(lambda: _compared(run), lacking)
    return Gathered(
        name=run.resolve().name,
        plan=plan,
        profile=profile,
        problem=problem,
        frontier=found,
        events=events,
        comparison=comparison,
        recipe=recipe,
        earlier=comparison is not None and recipe is None and (run / RECIPE).exists(),
        lacking=tuple(lacking),
    )


def _compared(run: Path) -> Comparison | None:
    path = run / COMPARISON / COMPARED
    return documents.read(path, Comparison, schema=SCHEMA, version=VERSION) if path.exists() else None


def _read(load: Callable[[], T | None], lacking: list[str]) -> T | None:
    try:
        return load()
    except FileError as error:
        lacking.append(brief(error))
        return None
