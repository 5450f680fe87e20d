"""Audit a run: read it, plan it anew from its recorded inputs, and compare every field."""

from functools import cache
from pathlib import Path

from layerlens_core.auditing.findings import Audit
from layerlens_core.auditing.links import check_links
from layerlens_core.auditing.plan import replay_plan
from layerlens_core.auditing.reading import read
from layerlens_core.auditing.scores import replay_scores
from layerlens_core.auditing.sheet import Sheet
from layerlens_core.auditing.traces import (
    Trace,
    check_plan_events,
    check_profile_events,
    check_run_ids,
    lacks_no_plugin,
    read_trace,
)
from layerlens_core.errors import FileError
from layerlens_core.files.atomic import settle
from layerlens_core.files.run import GAINS, PLAN, PROFILE, RECIPE, TRACE
from layerlens_core.plugin.registry import Registry, default
from layerlens_core.values.plan import Plan
from layerlens_core.values.profile import Profile, here, versions

#: By how many units in the last place numbers may differ that were computed with other versions, or elsewhere.
ULPS = 16
#: On which last digits of a plan depend.
_NUMERIC = ("layerlens", "python", "numpy", "platform")


def audit(run: str | Path, *, registry: Registry | None = None) -> Audit:
    """Whether all that a run's files say follows from what was recorded. The model is not needed, nor torch.

    Scores are computed anew from the profile's statistics, and from the profile and the plan's request utilities,
    thresholds, candidates with their costs, decisions, totals, limits, certificate and notes. They are compared with
    plan and trace field by field: exactly where the versions and the platform are those that the trace recorded, and to
    within 16 units in the last place elsewhere. The recipe is compared with the comparison that it comes from. Then the
    digests by which files name each other are compared with the files.

    run: the run's directory, which stays as it is, but for a change that a killed process had decided on.
    registry: of providers; by default those that are installed, and what `register` added.

    Returns the findings as values. Raises `FileError` for a directory without a run, and for files of another version.
    """
    run = Path(run)
    registry = default() if registry is None else registry
    if run.is_dir():
        settle(run)
    if not any((run / name).exists() for name in (PROFILE, PLAN)):
        raise FileError(f"{run} holds no run: there is no {PROFILE} and no {PLAN}; make one with: layerlens plan")
    sheet = Sheet()
    trace = read_trace(run, sheet)
    other_versions = _other_versions(trace)
    sheet.ulps = ULPS if trace is None or other_versions else 0
    if trace is not None:
        check_run_ids(trace, sheet)
    profile, plan = read(run, PROFILE, Profile.load, sheet), read(run, PLAN, Plan.load, sheet)
    _check_complete(run, trace, sheet)
    if profile is not None:
        replay_scores(profile, registry, sheet)
        if trace is not None:
            check_profile_events(trace, profile, sheet)
    if profile is not None and plan is not None:
        replayed = replay_plan(profile, plan, registry, sheet, complete=lacks_no_plugin(trace, registry))
        if replayed is not None and trace is not None:
            check_plan_events(trace, replayed.events, sheet)
    check_links(run, profile, plan, trace, _check_compared(run, plan, sheet), sheet)
    return Audit(
        findings=tuple(sorted(sheet.findings, key=lambda each: each.precision)),
        not_replayed=tuple(sheet.not_replayed),
        checked=tuple(sheet.checked),
        ulps=sheet.ulps,
        other_versions=other_versions,
    )


def _check_compared(run: Path, plan: Plan | None, sheet: Sheet) -> dict[str, str]:
    """What a comparison left, where there was one; by file, the digest by which it names the profile."""
    if not any((run / name).exists() for name in (RECIPE, GAINS)):
        return {}
    from layerlens_core.auditing.recipes import check_recipe  # here, as judging imports SciPy, which takes a second

    return check_recipe(run, plan, sheet)


def _check_complete(run: Path, trace: Trace | None, sheet: Sheet) -> None:
    """Whether profile and plan are there, which other files come from."""
    if not (run / PROFILE).exists():
        sheet.find(PROFILE, "", "a file", "nothing", f"{PLAN} is made from it", "link")
    if not (run / PLAN).exists():
        if trace is not None and trace.last("plan.made") is not None:
            sheet.find(PLAN, "", "a file", "nothing", f"{TRACE} tells of it", "link")
        else:
            sheet.skip(PLAN, "there is none; the run is a profile alone")


def _other_versions(trace: Trace | None) -> dict[str, tuple[str, str]]:
    """What the last digits depend on, where the trace recorded something else than is here."""
    started = trace.last("run.started") if trace is not None else None
    if started is None:
        return {}
    found, recorded = _versions_here(), started["versions"]
    return {
        name: (recorded.get(name, "unknown"), found[name]) for name in _NUMERIC if recorded.get(name) != found[name]
    }


@cache
def _versions_here() -> dict[str, str]:
    return versions() | here()
