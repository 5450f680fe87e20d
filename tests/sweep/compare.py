"""A model class on one pattern of lengths: profiled, and held against its own backward passes."""

import time
import traceback
from collections import Counter
from typing import Any, get_args

import torch
import transformers
from attrs import asdict, define, field
from torch import Tensor

import layerlens_core as ll
from layerlens_core.errors import LayerLensError
from layerlens_core.values.profile import Task
from sweep.models import build
from sweep.samples import PATTERNS, batches, samples
from sweep.truth import Truth, truth
from sweep.wide import Wide, widen

TOLERANCE = 1e-8
#: Of models that compute a part of their activations in float32.
NARROW_TOLERANCE = 1e-4
#: Of the largest score of a model: what lies below is a rounded zero, in float64 and in float32.
ZERO, NARROW_ZERO = 1e-24, 1e-9
SAMPLES = 4


@define
class Result:
    """What came of one class and pattern.

    status: ``exact``, ``wrong``, ``refused`` (by LayerLens, by name), ``raw`` (any other exception), ``unbuilt`` (no
        small model), ``unrun`` (the model itself cannot read the samples), ``timeout`` or ``crash``.
    error: of what was raised, its type, text and place.
    scored: modules with a score.
    exact: of these, within the tolerance.
    wrong: the others: name, score, truth; ten at most.
    worst: the largest relative error.
    unscored: how many modules by the reason given.
    widened: whether its own code asks for float32, and was given float64.
    narrow: operations on activations that are in less than float64 all the same.
    repeats: whether the model gives the same loss twice.
    loss: relative error of the mean loss.
    alone: of what is wrong or raw: what comes of it with ``micro_batch=1``.
    """

    task: str
    name: str
    pattern: str
    status: str = "exact"
    error: str = ""
    scored: int = 0
    exact: int = 0
    wrong: list[tuple[str, float, float]] = field(factory=list)
    worst: float = 0.0
    unscored: dict[str, int] = field(factory=dict)
    widened: bool = False
    narrow: tuple[str, ...] = ()
    repeats: bool = True
    loss: float = 0.0
    alone: str = ""
    seconds: float = 0.0

    def asdict(self) -> dict[str, Any]:
        return asdict(self)


def swept(task: str, name: str) -> list[Result]:
    """The results of a class, one a pattern, in a process of its own: its forward passes are in float64 ever after."""
    results = []
    watched = widen(getattr(transformers, name))
    for pattern in PATTERNS:
        began = time.monotonic()
        result = Result(task, name, pattern)
        results.append(result)
        try:
            _sweep(result, watched)
        finally:
            result.seconds = round(time.monotonic() - began, 2)
        if result.status == "unbuilt":
            break
    return results


def _sweep(result: Result, watched: Wide) -> None:
    """Writes what comes of it into the result."""
    dtype, watched.widens = torch.float64, True
    try:
        model = build(result.name, result.task)
    except Exception as error:
        result.status, result.error = "unbuilt", told(error)
        return
    found = samples(model, result.task, result.pattern)
    watched.clear()
    try:
        true = truth(model, found, result.task)
    except Exception as error:
        dtype = torch.float32
        watched.widens = False
        try:  # a few can do no more than this
            model = build(result.name, result.task, dtype)
            found = [{key: _narrowed(value) for key, value in sample.items()} for sample in found]
            true = truth(model, found, result.task)
        except Exception:
            result.status, result.error, true = "unrun", told(error), Truth({}, 0.0, True)
    result.narrow, result.repeats = tuple(sorted(watched.narrow)), true.repeats
    result.widened = bool(watched.widened)
    data = batches(found, result.pattern)
    model = build(result.name, result.task, dtype)
    once = _profiled(result, model, data, true, 1 if len(data) > 1 else SAMPLES)
    if result.status == "unrun":
        result.alone = once
    else:
        result.status = once
    if result.status in ("wrong", "raw"):
        second = Result(result.task, result.name, result.pattern, narrow=result.narrow)
        result.alone = _profiled(second, build(result.name, result.task, dtype), data, true, 1)


def _narrowed(value: Tensor) -> Tensor:
    return value.float() if value.is_floating_point() else value


def _profiled(result: Result, model: Any, data: list[Any], true: Truth, micro_batch: int) -> str:
    """The status, after all else is written into the result."""
    task = result.task if result.task in get_args(Task) else None
    try:
        profile = ll.profile(model, data, metrics=["fisher"], micro_batch=micro_batch, task=task)
    except LayerLensError as error:
        result.error = result.error or f"{type(error).__name__}: {error}"
        return "refused"
    except Exception as error:
        result.error = result.error or told(error)
        return "raw"
    result.unscored = dict(Counter(each.reason for each in profile.unscored))
    result.loss = abs(profile.loss - true.loss) / max(abs(true.loss), 1e-30)
    tolerance, zero = (NARROW_TOLERANCE, NARROW_ZERO) if result.narrow else (TOLERANCE, ZERO)
    floor = zero * max(true.fisher.values(), default=0.0)
    for each in profile.statistics:
        expected = true.fisher.get(each.module, 0.0)
        off = abs(each.fisher - expected)
        relative = off / max(expected, 1e-30)
        result.scored += 1
        if relative <= tolerance or off <= floor:
            result.exact += 1
        elif len(result.wrong) < 10:
            result.wrong.append((each.module, each.fisher, expected))
        if off > floor:
            result.worst = max(result.worst, relative)
    return "exact" if result.exact == result.scored else "wrong"


def told(error: BaseException) -> str:
    """An exception's type, first words, and the place where it was raised."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    text = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}: {text} [{'/'.join(last.filename.split('/')[-2:])}:{last.lineno}]"
