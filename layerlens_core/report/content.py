"""The sections of a report, as the plain values that its template prints."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from layerlens_core.allocation.budget import readable
from layerlens_core.comparison.judging.judgement import PLANNED, Verdict
from layerlens_core.report.decisions import flip_of, described, normalised, parameters_by_column
from layerlens_core.report.gather import Gathered
from layerlens_core.report.heat import Group
from layerlens_core.report.words import stability_lines

#: Resources as people call them.
RESOURCES = {"params": "trainable parameters", "flops": "FLOPs a token", "memory": "memory", "latency": "latency"}


def headline(gathered: Gathered) -> list[str]:
    """What to do, in a sentence or two: the verdict where the plan was compared, else that it was not."""
    plan, verdict = gathered.plan, _verdict(gathered)
    if verdict is not None and not gathered.earlier:
        own = next((each for each in verdict.judged if each.arm == PLANNED and _is_own(gathered, each.budget)), None)
        found = [f"At {each.budget}, train {each.sentence}." for each in verdict.recommended if _is_own(gathered, each.budget)]
        found = found or [f"At {each.budget}, train {each.sentence}." for each in verdict.recommended]
        if own is not None:
            found.insert(0, f"This plan is {own.sentence}." if own.finding in ("better", "worse") else f"This plan: {own.sentence}.")
        return found
    if plan.abstained is not None:
        return [f"The plan is uniform: it abstained from {plan.request.strategy}, as {plan.abstained}."]
    said = "compared as an earlier plan of this run was" if gathered.earlier else "compared with uniform LoRA"
    return [f"This plan was not {said}: all gains below are predictions. “layerlens compare” measures what it is worth."]


def _is_own(gathered: Gathered, budget: str) -> bool:
    asked = gathered.plan.request.params_budget
    return asked is not None and asked.removeprefix("params=") == budget


def _verdict(gathered: Gathered) -> Verdict | None:
    return None if gathered.comparison is None else gathered.comparison.verdict


def facts(gathered: Gathered) -> list[tuple[str, str]]:
    """The plan in a few lines, each with its name."""
    plan, profile = gathered.plan, gathered.profile
    methods = Counter(each.method for each in plan.decisions)
    trained = ", ".join(
        f"{count} {'frozen' if method == 'none' else method}" for method, count in methods.most_common()
    )
    found = [
        ("Layers", f"{len(plan.decisions)}: {trained}"),
        ("Trainable", f"{plan.parameters:,} parameters{_of(plan.parameters, plan.limit)}, "
                      f"{plan.parameters / max(profile.inventory.parameters, 1):.2%} of the model"),
    ]
    if plan.heads:
        names = ", ".join(head.name for head in plan.heads)
        found.append(("Beside them", f"{plan.head_parameters:,} parameters of the head ({names}), trained in full"))
    if gathered.frontier is not None:
        own, uniform = gathered.frontier.own, gathered.frontier.uniform
        beside = f"; uniform at the same budget: {uniform.gain:.4f}" if uniform and uniform.strategy != own.strategy else ""
        found.append(("Predicted gain", f"{own.gain:.4f}{beside} (a prediction, no measurement)"))
    if plan.certificate is not None:
        gap = "an optimum" if plan.certificate.gap <= 1e-9 else f"at most {plan.certificate.gap:.2g} below the best plan"
        found.append(("Certificate", f"gain {plan.certificate.value:.4f} of at most {plan.certificate.bound:.4f}: {gap}"))
    if known := profile.stability:
        ranked = ", ".join(f"{metric} {value:.2f}" for metric, value in known.items())
        found.append(("Stability", f"{ranked} (1: halves of the samples rank the layers alike, 0: chance)"))
    return found


def _of(amount: float, bound: float | None) -> str:
    return "" if not bound else f" of {bound:,} allowed ({amount / bound:.1%})"


def notes(gathered: Gathered) -> list[str]:
    """What weakens or explains the plan as a whole."""
    plan = gathered.plan
    found = [line for line in stability_lines(gathered.profile) if not line.startswith("halves of the")]
    evidence = gathered.profile.evidence
    if evidence is not None:
        found.append(f"labels: {evidence.sentence}")
    found += plan.notes
    if plan.abstained is not None:
        found.append(f"abstained from {plan.request.strategy}, as {plan.abstained}")
    return [*found, *gathered.lacking]


def budget_rows(gathered: Gathered) -> list[dict[str, str]]:
    """By resource: what was asked for, allowed and planned."""
    plan = gathered.plan
    asked = {text.partition("=")[0]: text.partition("=")[2] for text in plan.request.budget}
    rows = []
    for name, words in RESOURCES.items():
        amount, bound = getattr(plan.cost, name), plan.limits.bounds.get(name)
        if bound is None and not amount:
            continue
        rows.append({
            "resource": words, "asked": asked.get(name, "–"), "allowed": "–" if bound is None else readable(name, bound),
            "planned": readable(name, amount), "share": f"{amount / bound:.1%}" if bound else "–",
        })  # fmt: skip
    return rows


def column_rows(gathered: Gathered, groups: Sequence[Group]) -> list[dict[str, str]]:
    """Where the parameters go, by kind of module, the largest first."""
    several = len(groups) > 1
    return [
        {"module": f"{group}: {column}" if several else column, "parameters": f"{amount:,}", "share": f"{share:.1%}"}
        for group, column, amount, share in parameters_by_column(gathered, groups)
    ]


def score_table(gathered: Gathered) -> dict[str, Any]:
    """Every layer's scores, raw and normalised, and the utility that they became."""
    plan, profile = gathered.plan, gathered.profile
    normal, weights = normalised(gathered), plan.request.weights or {}
    total = sum(weights.values())
    columns = [
        {
            "metric": each.metric, "unit": each.unit,
            "weight": f"{weights[each.metric]:g} / {total:g}" if each.metric in weights else "–",
            "stability": _two(profile.stability.get(each.metric)),
            "modules": _two(profile.module_stability.get(each.metric)),
        }
        for each in profile.scores
    ]  # fmt: skip
    raw = {each.metric: each.by_layer(profile.inventory) for each in profile.scores}
    rows = []
    for decision in plan.decisions:
        cells = []
        for each in profile.scores:
            value, error = raw[each.metric].get(decision.unit), each.errors.get(decision.unit)
            scaled = normal.get(each.metric, {}).get(decision.unit)
            cells.append("–" if value is None else f"{value:.3g}" + (f" ±{error:.1g}" if error is not None else ""))
            cells.append("–" if scaled is None else f"{scaled:.4f}")
        rows.append({"layer": decision.unit, "cells": cells, "utility": f"{decision.utility:.4f}"})
    return {"columns": columns, "rows": rows, "normalizer": plan.request.normalizer, "aggregator": plan.request.aggregator}


def _two(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def decision_rows(gathered: Gathered) -> list[dict[str, str]]:
    """Every decision with its reason."""
    refused: dict[str, list[str]] = {}
    for event in gathered.events.get("candidate.refused", ()):
        refused.setdefault(event["unit"], []).append(f"{event['method']} was refused: {event['cause']}")
    return [
        {
            "layer": each.unit, "does": described(each), "parameters": f"{each.parameters:,}",
            "utility": f"{each.utility:.4f}", "reason": "; ".join([each.reason, *refused.get(each.unit, [])]),
            "flip": flip_of(each) or "–",
        }
        for each in gathered.plan.decisions
    ]  # fmt: skip


def without_margins(gathered: Gathered) -> str:
    """Why nothing is known of what would flip decisions; empty where it is."""
    left_out = gathered.events.get("margins.left_out", ())
    return str(left_out[-1]["cause"]) if left_out else ""


def comparison_rows(verdict: Verdict) -> list[dict[str, str]]:
    """Every arm at every budget."""
    best = {(each.budget, each.arm) for each in verdict.recommended}
    return [
        {
            "budget": each.budget, "arm": each.arm, "parameters": f"{each.parameters:,}", "rate": f"{each.rate:.2g}",
            "loss": "–" if each.loss is None else f"{each.loss:.4f}",
            "difference": "–" if each.ratio is None or each.finding == "same" else
            f"{100 * each.ratio.estimate:+.2f} % ({100 * each.ratio.low:+.2f} to {100 * each.ratio.high:+.2f})".replace("-", "−"),
            "p": "–" if each.corrected is None else "<.001" if each.corrected < 0.001 else f"{each.corrected:.3f}",
            "accuracy": "–" if each.accuracy is None else f"{each.accuracy:.1%}",
            "finding": each.finding, "recommended": "yes" if (each.budget, each.arm) in best else "",
        }
        for each in verdict.judged
    ]  # fmt: skip


def making(gathered: Gathered) -> list[tuple[str, list[tuple[str, str]]]]:
    """How the run was made: what was asked, the data, the recipe, versions and digests."""
    plan, profile, started = gathered.plan, gathered.profile, gathered.started()
    request, training = plan.request, plan.request.training
    asked = [
        ("budget", " ".join(request.budget) or "unlimited"), ("strategy", request.strategy),
        ("options", _pairs(request.options)), ("methods", ", ".join(request.methods or ())),
        ("weights", _pairs(request.weights or {})), ("penalties", _pairs(request.penalties)),
        ("normaliser", request.normalizer), ("aggregator", request.aggregator),
        ("sizes follow", f"the utility of each {request.granularity}"), ("α/r", f"{request.scale:g}"),
        ("training step", f"{training.batch} samples of {training.length} tokens, {training.optimizer}, {training.dtype}"),
        ("gains", "; ".join(f"{name}: {curve.source}" for name, curve in request.gains.items())),
    ]  # fmt: skip
    data = [
        ("task", profile.task), ("samples", f"{profile.samples:,}"), ("loss before training", f"{profile.loss:.4f} nats"),
        ("classes", ", ".join(profile.labels)), *((name, str(value)) for name, value in profile.settings.items()),
        ("not scored", "; ".join(f"{each.name}: {each.reason}" for each in profile.unscored)),
    ]  # fmt: skip
    found = [("What was asked", asked), ("What was measured", data)]
    if gathered.recipe is not None:
        recipe = gathered.recipe
        found.append(("The recipe", [
            ("found", recipe.sentence), ("advice", recipe.advice), ("rates", _pairs(recipe.rates)),
            *((name, str(value)) for name, value in recipe.keys.items()),
        ]))  # fmt: skip
    if started is not None:
        arguments = [(name, ", ".join(map(str, value)) if isinstance(value, list) else str(value))
                     for name, value in started["arguments"].items()]  # fmt: skip
        found.append((f"The command: layerlens {started['command']}", arguments))
    plugins = [f"{event.get('plugin')} ({event.get('distribution')} {event.get('version')})"
               for event in gathered.events.get("plugin.loaded", ())]  # fmt: skip
    versions = [*profile.versions.items(), ("plugins", ", ".join(plugins))]
    digests = [("plan", plan.id), ("model", plan.fingerprint), ("data", profile.data), ("directions", plan.directions or "")]
    if gathered.comparison is not None:
        digests.append(("setting of the comparison", gathered.comparison.setting))
    found += [("Versions", versions), ("Digests", digests)]
    return [(title, [(name, text) for name, text in rows if text]) for title, rows in found]


def _pairs(values: Any) -> str:
    return ", ".join(f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items())
