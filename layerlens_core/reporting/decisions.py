"""What a report says of every decision: why, what would change it, and the numbers that led to it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from layerlens_core.allocation.margins import FARTHEST
from layerlens_core.reporting.gather import Gathered
from layerlens_core.reporting.heat import Cell, Group
from layerlens_core.reporting.words import describe_sizes
from layerlens_core.values.decisions import Decision


def described(decision: Decision) -> str:
    """Method and size in words: ``lora of size 3–5``.

    decision: to be told.
    """
    if decision.method == "none":
        return "frozen"
    return f"{decision.method} of size {describe_sizes(decision.sizes) if decision.sizes else decision.size}"


def flip_of(decision: Decision, *, tried: bool = False) -> str:
    """What would give a layer another method, or what came next; empty where neither is known.

    decision: on the layer.
    tried: whether changes of its utility were tried (`layerlens_core.allocation.margins`).
    """
    if decision.margin is None:
        found = []
        if tried and decision.utility > 0:
            found.append(
                f"no utility from a {FARTHEST:g}th of its own to {FARTHEST:g} times as much gives another method"
            )
        if decision.runner_up not in (None, decision.method):
            found.append(f"the runner-up is {decision.runner_up}")
        return "; ".join(found)
    becomes = f"would be {decision.runner_up}" if decision.runner_up else "would get another method"
    share = f" ({decision.margin / decision.utility:+.0%})".replace("-", "−") if decision.utility > 0 else ""
    return f"{becomes}, if its utility were {decision.utility + decision.margin:.4g}{share}"


def margins_tried(gathered: Gathered) -> bool:
    """Whether a layer without a margin was tried, as far as the trace tells."""
    return bool(gathered.events) and not gathered.events.get("margins.left_out")


def normalised(gathered: Gathered) -> Mapping[str, Mapping[str, float]]:
    """Normalised scores by metric and layer: those of the trace, else as they follow from the profile."""
    found: dict[str, dict[str, float]] = {}
    for event in gathered.events.get("utility.computed", ()):
        for metric, value in event["normalized"].items():
            found.setdefault(metric, {})[event["unit"]] = value
    if not found and gathered.problem is not None:
        utilities = gathered.problem.utilities
        for metric, values in utilities.normalized.items():
            found[metric] = dict(zip(utilities.units, values, strict=True))
    return found


def refusals(gathered: Gathered) -> Mapping[str, list[str]]:
    """By layer, the methods that it would have got and did not, each with the cause, as the trace tells."""
    found: dict[str, list[str]] = {}
    for event in gathered.events.get("candidate.refused", ()):
        found.setdefault(event["unit"], []).append(f"{event['method']}: {event['cause']}")
    return found


def data_of(gathered: Gathered, groups: Sequence[Group]) -> dict[str, Any]:
    """The run's data, as the page holds them for its script and for whoever reads it by a program.

    gathered: the run.
    groups: of its heat map.
    """
    plan, profile = gathered.plan, gathered.profile
    weights = plan.request.weights or {}
    of_modules = [scores for scores in profile.scores if scores.granularity == "module"]
    by_layer = {scores.metric: scores.by_layer(profile.inventory) for scores in profile.scores}
    errors = {scores.metric: scores.errors for scores in profile.scores}
    normal, tried = normalised(gathered), margins_tried(gathered)
    refused = refusals(gathered)
    places = _parameters_by_place(gathered)

    def cell(each: Cell | None) -> list[Any] | None:
        if each is None:
            return None
        raw = [_sum([scores.values[p] for p in each.places if p in scores.values]) for scores in of_modules]
        known = [places[place] for place in each.places if place in places]
        return [each.size, sum(known) if len(known) == len(each.places) else None, raw]

    def layer(name: str) -> dict[str, list[float | None]]:
        kinds = {metric: (by_layer[metric], errors[metric], normal.get(metric, {})) for metric in by_layer}
        return {metric: [_round(values.get(name)) for values in kind] for metric, kind in kinds.items()}

    return {
        "schema": "layerlens/report", "version": 1, "run": gathered.name, "architecture": plan.architecture,
        "plan": plan.digest, "budget": list(plan.request.budget),
        "metrics": {each.metric: {"unit": each.unit, "weight": weights.get(each.metric)} for each in profile.scores},
        "module_metrics": [scores.metric for scores in of_modules],
        "groups": [
            {
                "name": group.name,
                "columns": group.columns,
                "layers": [
                    {
                        "name": row.decision.unit, "does": described(row.decision), "method": row.decision.method,
                        "parameters": row.decision.parameters, "utility": _round(row.decision.utility),
                        "reason": row.decision.reason, "flip": flip_of(row.decision, tried=tried),
                        "refused": refused.get(row.decision.unit, []), "scores": layer(row.decision.unit),
                        "cells": [cell(each) for each in row.cells],
                    }
                    for row in group.rows
                ],
            }
            for group in groups
        ],
    }  # fmt: skip


def _parameters_by_place(gathered: Gathered) -> Mapping[str, int]:
    """Trainable parameters of every place; empty where the methods are not at hand."""
    if gathered.problem is None:
        return {}
    units = gathered.problem.candidates.by_name
    return {
        target.name: target.parameters(decision.sizes.get(target.name, 0))
        for decision in gathered.plan.decisions
        if decision.unit in units
        for target in units[decision.unit].targets.get(decision.method, ())
    }


def parameters_by_column(gathered: Gathered, groups: Sequence[Group]) -> list[tuple[str, str, int, float]]:
    """Where the parameters go: group, column, parameters, and their share of all, the largest first.

    gathered: the run.
    groups: of its heat map.
    """
    places, total = _parameters_by_place(gathered), gathered.plan.parameters
    found = []
    for group in groups:
        for number, column in enumerate(group.columns):
            cells = [cell for row in group.rows if (cell := row.cells[number]) is not None]
            amount = sum(places.get(place, 0) for cell in cells for place in cell.places)
            if amount:
                found.append((group.name, column, amount, amount / total))
    return sorted(found, key=lambda each: -each[2])


def _sum(values: Sequence[float]) -> float | None:
    return _round(math.fsum(values)) if values else None


def _round(value: float | None) -> float | None:
    """To six digits, which are all that is shown, and more than is known."""
    return None if value is None else float(f"{value:.6g}")
