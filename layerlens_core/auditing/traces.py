"""The trace beside what its run implies: every event that follows from profile and plan, in its order."""

from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

from attrs import frozen

from layerlens_core import tracing
from layerlens_core.auditing.sheet import Sheet
from layerlens_core.errors import FileError, VersionError, brief
from layerlens_core.files.run import PROFILE, TRACE
from layerlens_core.files.trace.events import COMMON, FOREIGN
from layerlens_core.plugin.registry import Registry
from layerlens_core.values.profile import Profile

#: Of every event, and of no other file.
_OWN = tuple(COMMON)
#: Events that say what profiling found.
_OF_PROFILE = ("profile.finished", "module.unscored", "metric.scored")
#: Events that say which command ran, with what: they follow from nothing.
_OF_COMMAND = ("run.started", "plugin.loaded", "plugin.failed", "plugin.conflict", "run.finished")
#: By what an event names a file; the links are about these.
_NAMING = ("digest", "parts")


@frozen(kw_only=True)
class Trace:
    """What could be read of a trace.

    events: with the numbers of their lines.
    whole: whether that is all of it.
    """

    events: Sequence[tuple[int, dict[str, Any]]]
    whole: bool

    def last(self, name: str) -> dict[str, Any] | None:
        """The last event of a name."""
        return next((event for _, event in reversed(self.events) if event["event"] == name), None)

    def of(self, *names: str) -> list[tuple[int, dict[str, Any]]]:
        """The events of these names, in their order."""
        return [(line, event) for line, event in self.events if event["event"] in names]


def read_trace(run: Path, sheet: Sheet) -> Trace | None:
    """What can be read of a run's trace; None where there is none.

    run: its directory.
    sheet: for what is found.
    """
    if not (run / TRACE).exists():
        sheet.skip(TRACE, "there is none, so that nothing says which plan was made, with which versions")
        return None
    try:
        found = tracing.read_what_is_there(run)
    except VersionError:
        raise
    except FileError as error:
        sheet.find(TRACE, "", None, None, brief(error), "reader")
        return None
    sheet.tick(TRACE, "by its own reader")
    for fault in found.faults:
        where = "" if fault.line is None else f"line {fault.line}"
        sheet.find(TRACE, where, None, None, fault.what, "reader" if fault.kind == "line" else "seal")
    faulty = {fault.line for fault in found.faults}
    lines = (line for line in count(2) if line not in faulty)  # the first line is the file's own
    whole = not any(fault.kind == "end" for fault in found.faults)
    return Trace(events=list(zip(lines, found.events, strict=False)), whole=whole)


def lacks_no_plugin(trace: Trace | None, registry: Registry) -> bool:
    """Whether every plugin is here, in the same version, that was loaded when the trace was written."""
    if trace is None:
        return False
    here = {(each.name, each.distribution, each.version) for each in registry.plugins if each.status == "loaded"}
    told = [event for _, event in trace.of("plugin.loaded")]
    return bool(told) and all((each["plugin"], each["distribution"], each["version"]) in here for each in told)


def check_run_ids(trace: Trace, sheet: Sheet) -> None:
    """Whether all that a command told is under its own number.

    trace: of the run.
    sheet: for what is found.
    """
    run_id = None
    for line, event in trace.events:
        if run_id is None or event["event"] == "run.started":
            run_id = event["run_id"]
        why = "the command that wrote it began with it"
        sheet.compare(TRACE, "numbers of commands", run_id, event["run_id"], at=f"line {line}: run_id", why=why)


def check_profile_events(trace: Trace, profile: Profile, sheet: Sheet) -> None:
    """What the trace tells of profiling, beside the profile.

    trace: of the run.
    profile: likewise.
    sheet: for what is found.
    """
    found = trace.of(*_OF_PROFILE)
    if not found:
        sheet.skip(f"{TRACE}: what profiling logged", "there is nothing; the run was profiled without a trace")
        return
    started = next((event for line, event in reversed(trace.of("run.started")) if line < found[0][0]), None)
    if started is not None:
        recorded = {name: started["versions"].get(name) for name in profile.versions}
        why = f"{TRACE} says so where the command began"
        sheet.compare(PROFILE, "versions", recorded, dict(profile.versions), at="versions", why=why)
    with tracing.capture_events() as expected:
        tracing.profile_finished(profile)
        for scores in profile.scores:
            tracing.metric_scored(scores)
    # A file has scores in the order of their names, and the trace in the order in which they were found.
    found.sort(key=lambda each: _place(each[1]))
    _compare(found, sorted(expected, key=_place), trace, sheet, "events of the profile", "the profile says so")


def check_plan_events(trace: Trace, expected: Sequence[dict[str, Any]], sheet: Sheet) -> None:
    """What the trace tells of planning, beside the events of planning anew.

    trace: of the run.
    expected: the events of planning anew.
    sheet: for what is found.
    """
    others = {*_OF_PROFILE, *_OF_COMMAND}
    found = [(line, event) for line, event in trace.events if event["event"] not in others]
    if foreign := [event for _, event in found if FOREIGN in event["event"]]:
        sheet.skip(f"{TRACE}: {len(foreign)} events of plugins", "only the plugin knows what they follow from")
        found = [(line, event) for line, event in found if FOREIGN not in event["event"]]
        expected = [event for event in expected if FOREIGN not in event["event"]]
    why = "planning anew tells it so"
    _compare(found, expected, trace, sheet, "events of the plan", why)


def _compare(
    found: Sequence[tuple[int, dict[str, Any]]],
    expected: Sequence[dict[str, Any]],
    trace: Trace,
    sheet: Sheet,
    what: str,
    why: str,
) -> None:
    for (line, event), other in zip(found, expected, strict=False):
        name = other["event"]
        if event["event"] != name:
            sheet.find(TRACE, f"line {line}: event", name, event["event"], why, "derivation")
            return
        at = f"line {line}: {name}" + (f" of {other['unit']}" if "unit" in other else "")
        sheet.compare(TRACE, what, _told(other), _told(event), at=at, why=why)
    if len(found) > len(expected):
        line, event = found[len(expected)]
        sheet.find(TRACE, f"line {line}: event", "nothing", event["event"], why, "derivation")
    elif len(found) < len(expected):
        missing = expected[len(found)]["event"]
        if trace.whole:
            sheet.find(TRACE, f"after line {found[-1][0] if found else 0}", missing, "nothing", why, "derivation")
        else:
            sheet.skip(f"{TRACE}: {len(expected) - len(found)} of its events, from {missing} on", "they are not there")


def _place(event: dict[str, Any]) -> tuple[Any, ...]:
    kind = _OF_PROFILE.index(event["event"])
    return (kind, event["metric"], event["unit"]) if event["event"] == "metric.scored" else (kind,)


def _told(event: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in event.items() if name not in (*_OWN, *_NAMING)}
