"""The log of a run: events, each through a named function; what they hold is in `layerlens_core.files.trace.events`.

The library only emits. Somebody hears it where events are captured, as the command line does with `to_file` and
anybody with `capture_events`, and where the program configured structlog: its log gets the same events.
"""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layerlens_core.errors import FileError, PluginError, brief
from layerlens_core.files import atomic, documents
from layerlens_core.files.reading import read_file
from layerlens_core.files.run import TRACE
from layerlens_core.files.trace import lines
from layerlens_core.files.trace.events import COMMON, EVENTS, FOREIGN, wrong_event
from layerlens_core.files.trace.lines import Readable
from layerlens_core.files.trace.listening import captured, listened_to, now, tell
from layerlens_core.files.trace.listening import silenced as silenced
from layerlens_core.files.trace.plain import plain

if TYPE_CHECKING:
    from layerlens_core.plugin.registry import Registry
    from layerlens_core.values.candidates import CandidateSet
    from layerlens_core.values.costs import Cost, Limits
    from layerlens_core.values.decisions import Decision
    from layerlens_core.values.gains import GainCurve
    from layerlens_core.values.plan import Plan
    from layerlens_core.values.profile import Profile
    from layerlens_core.values.scores import RawScores, Utilities


def run_started(command: str, arguments: Mapping[str, Any], versions: Mapping[str, str]) -> None:
    """A command began: what was asked for, and the versions in use."""
    _emit("run.started", command=command, arguments=dict(arguments), versions=dict(versions))


def plugins_seen(registry: "Registry") -> None:
    """Every plugin that was found, loaded or not, and every name that two provide."""
    for plugin in registry.plugins:
        if plugin.status == "loaded":
            _emit("plugin.loaded", plugin=plugin.name, distribution=plugin.distribution, version=plugin.version)
        else:
            _emit(
                "plugin.failed", plugin=plugin.name, distribution=plugin.distribution, version=plugin.version,
                status=plugin.status, cause=plugin.cause,
            )  # fmt: skip
    for conflict in registry.conflicts:
        _emit("plugin.conflict", cause=conflict)


def profile_finished(profile: "Profile") -> None:
    """The model was profiled: on how many samples, with which loss, and what could not be scored."""
    if not listened_to():
        return  # a digest of a large profile takes a while
    _emit(
        "profile.finished",
        digest=profile.digest,
        parts=documents.parts(profile),
        task=profile.task,
        samples=profile.samples,
        loss=profile.loss,
        data=profile.data,
        settings=dict(profile.settings),
    )
    for skipped in profile.unscored:
        _emit("module.unscored", module=skipped.name, reason=skipped.reason)


def metric_scored(scores: "RawScores") -> None:
    """One metric's raw scores, one event for each layer (or module)."""
    for unit, value in scores.values.items():
        _emit(
            "metric.scored", metric=scores.metric, unit=unit, granularity=scores.granularity, raw=value,
            measure=scores.unit,
        )  # fmt: skip


def utilities_computed(utilities: "Utilities") -> None:
    """Every unit's utility, with the raw scores, normalised scores and weights that it was computed from."""
    if not listened_to():
        return
    for index, unit in enumerate(utilities.units):
        _emit(
            "utility.computed",
            unit=unit,
            utility=utilities.values[index],
            raw={name: column[index] for name, column in utilities.raw.items()},
            normalized={name: column[index] for name, column in utilities.normalized.items()},
            weights=dict(utilities.weights),
            normalizer=utilities.normalizer,
            aggregator=utilities.aggregator,
            errors={name: column[index] for name, column in utilities.errors.items()},
        )


def gain_measured(method: str, curve: "GainCurve") -> None:
    """The curve by which a method's gains were predicted in place of its own, and what it rests on."""
    _emit(
        "gain.measured",
        method=method,
        ceiling=curve.ceiling,
        half=curve.half,
        spread=curve.spread,
        source=curve.source,
    )


def thresholds_set(methods: Sequence[str], thresholds: Sequence[float], origin: str) -> None:
    """The thresholds between methods in ascending capacity, and where they come from.

    methods: in ascending capacity.
    thresholds: utilities between one method and the next, so one fewer.
    origin: where they come from, in words.
    """
    _emit_for_plugin("thresholds.set", methods=list(methods), thresholds=list(thresholds), origin=origin)


def candidates_built(candidates: "CandidateSet") -> None:
    """How many candidates each unit has, and the cheapest of all."""
    if not listened_to():
        return
    cheapest = candidates.cheapest
    _emit(
        "candidates.built",
        methods=list(candidates.methods),
        units=len(candidates.units),
        candidates=len(candidates.table.gains),
        cheapest=cheapest.parameters if cheapest else None,
    )


def candidate_refused(unit: str, method: str, cause: str) -> None:
    """A method that a unit would have got, and why it did not.

    unit: name of the layer.
    method: that it did not get.
    cause: in words.
    """
    _emit_for_plugin("candidate.refused", unit=unit, method=method, cause=cause)


def decision_made(decision: "Decision") -> None:
    """One unit's decision."""
    _emit(
        "decision.made",
        unit=decision.unit,
        method=decision.method,
        size=decision.size,
        sizes=dict(decision.sizes),
        utility=decision.utility,
        parameters=decision.parameters,
        reason=decision.reason,
        runner_up=decision.runner_up,
        margin=decision.margin,
    )


def margins_left_out(cause: str) -> None:
    """How far layers are from another method was not looked for, and why."""
    _emit("margins.left_out", cause=cause)


def budget_settled(asked: str, limits: "Limits", spent: "Cost") -> None:
    """What was asked for, allowed and spent of each resource, the frozen model included."""
    _emit(
        "budget.settled",
        asked=asked,
        limits=limits.bounds,
        spent={name: getattr(spent, name) for name in ("params", "flops", "memory", "latency")},
    )


def certificate_found(*, value: float, bound: float, exact: bool) -> None:
    """What a plan gains, what no plan can exceed, and whether an optimum was asked for.

    value: the sum of predicted gains.
    bound: what no plan can exceed.
    exact: whether an optimum was searched for.
    """
    _emit_for_plugin("budget.certificate", value=value, bound=bound, gap=bound - value, exact=exact)


def plan_made(plan: "Plan") -> None:
    """The plan is complete."""
    if not listened_to():
        return  # a plan's digest takes as long as planning
    _emit(
        "plan.made",
        digest=plan.digest,
        parts=documents.parts(plan),
        parameters=plan.parameters,
        heads=plan.head_parameters,
    )


def run_finished(seconds: float) -> None:
    """The command ended well."""
    _emit("run.finished", seconds=round(seconds, 3))


def plugin_told(plugin: str, what: str, **fields: Any) -> None:
    """An event of a plugin's own, which is in the trace under the name ``PLUGIN:WHAT``.

    plugin: the name of the plugin's entry point.
    what: happened, such as ``graph.built``.
    fields: anything, by name; values become what JSON has.

    Raises `PluginError` for a name that is empty or has a colon, and for a field that every event has.
    """
    if not plugin or not what or FOREIGN in plugin or FOREIGN in what:
        raise PluginError(f"an event of a plugin is named by two texts without a colon, not by {plugin!r} and {what!r}")
    if taken := sorted(fields.keys() & COMMON.keys()):
        raise PluginError(f"the event {plugin}{FOREIGN}{what} has a field {taken[0]!r}, which every event has already")
    tell(f"{plugin}{FOREIGN}{what}", fields)


@contextmanager
def to_file(run: Path, *, run_id: str, keep_profile: bool = False, into: Path | None = None) -> Iterator[None]:
    """Let events go to ``trace.jsonl`` of a run, at the end and only if nothing was raised.

    run: the run's directory.
    run_id: of every event.
    keep_profile: what profiling logged earlier stays in the file, which is sealed anew.
    into: another directory to write the file into.

    Raises `FileError` where the trace to keep is damaged or of another version.
    """
    earlier = read(run) if keep_profile and (run / TRACE).exists() else []
    kept = [each for each in earlier if _is_of_profile(each) and each["run_id"] == earlier[0]["run_id"]]
    # In memory, so that a process that is killed leaves nothing behind.
    with captured(run_id) as events:
        yield
    with atomic.replacing((into or run) / TRACE) as file:
        file.write(lines.written([*kept, *events]))


@contextmanager
def capture_events(path: str | Path | None = None) -> Iterator[list[dict[str, Any]]]:
    """The events that LayerLens emits inside, as a list that grows; nothing needs to be configured.

        with ll.capture_events() as events:
            plan = ll.allocate(profile)
        [event["unit"] for event in events if event["event"] == "decision.made"]

    Each is a dict of what JSON has; docs/trace.md says what is in it. What counts is the context: a thread of yours
    hears its own events alone, unless it runs in a copy of this one (`contextvars.copy_context`).

    path: of a file to write them to as well, one a line, when the block ends, by an error too. It takes the place of
        what is there, and `layerlens_core.tracing.read` reads it.

    Raises `FileError` where the file cannot be written.
    """
    run_id = uuid.uuid4().hex[:12]
    if path is None:
        with captured(run_id) as events:
            yield events
        return
    failed: BaseException | None = None
    with atomic.replacing(Path(path)) as file:
        with captured(run_id) as events:
            try:
                yield events
            except BaseException as error:
                failed = error
        file.write(lines.written(events))
    if failed is not None:
        raise failed


def read(run: Path) -> list[dict[str, Any]]:
    """The events of a run, each as its table says, of a trace that is whole and as it was written.

    run: its directory, or a file that `capture_events` wrote.

    Raises `layerlens_core.errors.FileError` where the trace is missing, damaged, cut short or of another version.
    """
    found = read_what_is_there(run)
    if found.faults:
        fault, path = found.faults[0], _path(run)
        raise FileError(f"{path} {fault}" if fault.line is None else f"{path}, {fault}")
    return found.events


def read_what_is_there(run: Path) -> Readable:
    """The events of a run that can be read, and what is wrong with the trace.

    run: its directory, or a file that `capture_events` wrote.

    Raises `layerlens_core.errors.FileError` where there is no trace, or it is of another version.
    """
    path = _path(run)
    if path != run:
        atomic.settle(run)
    return lines.readable(read_file(path, advice=f"is {run} the directory of a run?"), path)


def _path(run: Path) -> Path:
    return run if run.is_file() else run / TRACE


def _is_of_profile(event: Mapping[str, Any]) -> bool:
    return event["event"] in EVENTS and EVENTS[event["event"]].of_profile


def _emit(event: str, **fields: Any) -> None:
    tell(event, fields)


def _emit_for_plugin(event: str, **fields: Any) -> None:
    """As `_emit`, of what plugins give; raises `PluginError` for what would make the trace unreadable."""
    if not listened_to():
        return
    if wrong := wrong_event({"event": event, **plain(fields), "run_id": "", "timestamp": now()}):
        raise PluginError(f"an event for the trace {brief(wrong)}")
    tell(event, fields)
