"""One of two runs that are compared: its plan and profile, and what its trace says of where it was planned."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import frozen

from layerlens_core import tracing
from layerlens_core.errors import FileError
from layerlens_core.values.plan import Plan, load_run
from layerlens_core.values.profile import Profile


@frozen(kw_only=True)
class Side:
    """A run.

    name: its directory.
    plan: of the run.
    profile: of the run.
    versions: of the packages with which it was planned; None where no trace says so.
    plugins: by name, distribution and version of those that were loaded; None where no trace says so.
    data: the file or dataset that it was profiled on; empty where no trace says so.
    remarks: what is wrong with the trace.
    """

    name: str
    plan: Plan
    profile: Profile
    versions: Mapping[str, str] | None = None
    plugins: Mapping[str, str] | None = None
    data: str = ""
    remarks: tuple[str, ...] = ()


def side(run: str | Path) -> Side:
    """Read a run. Raises `FileError` where its plan or profile is missing, damaged or another's."""
    run = Path(run)
    plan, profile = load_run(run)
    events: Sequence[Mapping[str, Any]] = ()
    remarks: list[str] = []
    try:
        found = tracing.read_what_is_there(run)
    except FileError as error:
        remarks.append(f"with which versions and plugins {run} was planned is not known: {error}")
    else:
        events = found.events
        remarks += [f"the trace of {run} is damaged: {fault}" for fault in found.faults[:1]]
    begins = [at for at, event in enumerate(events) if event["event"] == "run.started"]
    if not begins:
        return Side(name=str(run), plan=plan, profile=profile, remarks=tuple(remarks))
    profiled, last = events[begins[0]], events[begins[-1] :]
    return Side(
        name=str(run),
        plan=plan,
        profile=profile,
        versions=last[0]["versions"],
        plugins={
            event["plugin"]: f"{event['distribution']} {event['version']}".strip()
            for event in last
            if event["event"] == "plugin.loaded"
        },
        data=str(profiled["arguments"].get("data", "")),
        remarks=tuple(remarks),
    )
