"""The log of a run: structlog events, one JSON object a line, each through a named function.

The library only emits. Nothing is written unless the program configured structlog, as the command line does
with `to_file`; an application that configures structlog itself gets the events in its own log.
"""

import io
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layerlens_core.errors import FileError, brief
from layerlens_core.files import atomic
from layerlens_core.files.json_text import parse_strict, writable
from layerlens_core.files.reading import read_file
from layerlens_core.files.run import TRACE
from layerlens_core.files.trace_events import wrong_field

if TYPE_CHECKING:
    from layerlens_core.plugin.registry import Registry
    from layerlens_core.values.candidates import CandidateSet
    from layerlens_core.values.costs import Cost, Limits
    from layerlens_core.values.decisions import Decision
    from layerlens_core.values.gains import GainCurve
    from layerlens_core.values.plan import Plan
    from layerlens_core.values.profile import Profile
    from layerlens_core.values.scores import RawScores, Utilities

#: Events of profiling, which stay in the trace when a run is allocated anew.
PROFILE_EVENTS = frozenset(
    {"run.started", "plugin.loaded", "plugin.failed", "profile.finished", "module.unscored", "metric.scored"}
)


_SILENT = ContextVar("layerlens_silent", default=False)


def run_started(command: str, arguments: Mapping[str, Any], versions: Mapping[str, str]) -> None:
    """A command began: what was asked for, and the versions in use."""
    _emit("run.started", command=command, arguments=dict(arguments), versions=dict(versions))


def plugins_seen(registry: "Registry") -> None:
    """Every plugin that was found, loaded or not, and every name that two provide."""
    for plugin in registry.plugins:
        fields = {"plugin": plugin.name, "distribution": plugin.distribution, "version": plugin.version}
        if plugin.status == "loaded":
            _emit("plugin.loaded", **fields)
        else:
            _emit("plugin.failed", **fields, status=plugin.status, cause=plugin.cause)
    for conflict in registry.conflicts:
        _emit("plugin.failed", status="conflict", cause=conflict)


def profile_finished(profile: "Profile") -> None:
    """The model was profiled: on how many samples, with which loss, and what could not be scored."""
    if not _listened_to():
        return  # a digest of a large profile takes a while
    _emit(
        "profile.finished",
        digest=profile.digest,
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
    errors = utilities.errors
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
            **({"errors": {name: column[index] for name, column in errors.items()}} if errors else {}),
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
    """The thresholds between methods in ascending capacity, and where they come from."""
    _emit("thresholds.set", methods=list(methods), thresholds=list(thresholds), origin=origin)


def candidates_built(candidates: "CandidateSet") -> None:
    """How many candidates each unit has, and the cheapest of all."""
    if not _listened_to():
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
    """A method that a unit would have got, and why it did not."""
    _emit("candidate.refused", unit=unit, method=method, cause=cause)


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
    """What a plan gains, what no plan can exceed, and whether an optimum was asked for."""
    _emit("budget.certificate", value=value, bound=bound, gap=bound - value, exact=exact)


def plan_made(plan: "Plan") -> None:
    """The plan is complete."""
    if not _listened_to():
        return  # a plan's digest takes as long as planning
    _emit("plan.made", digest=plan.digest, parameters=plan.parameters, heads=plan.head_parameters)


def run_finished(seconds: float) -> None:
    """The command ended well."""
    _emit("run.finished", seconds=round(seconds, 3))


@contextmanager
def to_file(run: Path, *, run_id: str, keep_profile: bool = False, into: Path | None = None) -> Iterator[None]:
    """Configure structlog so that events go to ``trace.jsonl`` of a run, at the end and only if nothing was raised.

    run: the run's directory.
    run_id: bound to every event.
    keep_profile: what profiling logged earlier stays in the file.
    into: another directory to write the file into.
    """
    import structlog

    path = run / TRACE
    earlier = read(run) if keep_profile and path.exists() else []
    kept = [e for e in earlier if e["event"] in PROFILE_EVENTS and e.get("run_id") == earlier[0].get("run_id")]
    # In memory, so that a process that is killed leaves nothing behind.
    text = io.StringIO()
    for event in kept:
        text.write(json.dumps(event, ensure_ascii=False) + "\n")
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.EventRenamer("event"),
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
        logger_factory=structlog.WriteLoggerFactory(file=text),
        cache_logger_on_first_use=False,
    )
    try:
        with structlog.contextvars.bound_contextvars(run_id=run_id):
            yield
    finally:
        structlog.reset_defaults()
    with atomic.replacing((into or run) / TRACE) as file:
        file.write(writable(text.getvalue()))


def read(run: Path) -> list[dict[str, Any]]:
    """The events of a run. Raises `layerlens_core.errors.FileError` where the trace is missing or damaged."""
    path = run / TRACE
    atomic.settle(run)
    content = read_file(path, advice=f"is {run} the directory of a run?")
    events = []
    # Bytes are split at "\n" alone, unlike text, and a line that is cut off has no end.
    for number, line in enumerate(content.removesuffix(b"\n").split(b"\n") if content else (), start=1):
        try:
            event = parse_strict(line.decode("utf-8"))
        except ValueError as error:
            raise FileError(f"{path}, line {number}, is not valid JSON: {brief(error)}") from None
        if not isinstance(event, dict) or not isinstance(event.get("event"), str):
            raise FileError(f"{path}, line {number}, is no event of a trace")
        if wrong := wrong_field(event):
            raise FileError(f"{path}, line {number}, {brief(wrong)}")
        events.append(event)
    return events


@contextmanager
def silenced() -> Iterator[None]:
    """Emit nothing inside, for decisions that are only tried."""
    token = _SILENT.set(True)
    try:
        yield
    finally:
        _SILENT.reset(token)


def _emit(event: str, **fields: Any) -> None:
    if _listened_to():
        structlog = sys.modules["structlog"]
        structlog.get_logger("layerlens").info(event, **fields)


def _listened_to() -> bool:
    # Importing structlog costs a tenth of a second: where nobody has imported it, nobody has configured it.
    structlog = sys.modules.get("structlog")
    return structlog is not None and structlog.is_configured() and not _SILENT.get()
