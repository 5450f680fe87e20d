"""What stands at the top of a report: what to do, the plan in a few lines, and what weakens it."""

from collections import Counter

from layerlens_core.comparison.judging.judgement import PLANNED
from layerlens_core.reporting.gather import Gathered
from layerlens_core.reporting.words import stability_lines
from layerlens_core.values.decisions import Certificate


def headline(gathered: Gathered) -> list[str]:
    """What to do, in a sentence or two: the verdict where the plan was compared, else that it was not.

    gathered: the run.
    """
    plan, verdict = gathered.plan, gathered.verdict
    if verdict is None or gathered.earlier:
        if plan.abstained is not None:
            return [f"The plan is uniform: it abstained from {plan.request.strategy}, as {plan.abstained}."]
        missing = "An earlier plan of this run was compared, this one was not"
        if verdict is None:
            missing = "This plan was not compared with uniform LoRA"
        return [f"{missing}: all gains below are predictions. “layerlens compare” measures what it is worth."]
    asked = (plan.request.params_budget or "").removeprefix("params=")
    own = next((each for each in verdict.judged if (each.arm, each.budget) == (PLANNED, asked)), None)
    if own is None:
        return [f"At {each.budget}, train {each.sentence}." for each in verdict.recommended]
    said = f"measured to be {own.sentence}" if own.finding in ("better", "worse") else own.sentence
    recommended = [each for each in verdict.recommended if each.budget == own.budget]
    if any(each.arm == PLANNED for each in recommended):
        return [f"Train this plan at rate {own.rate:g}: {said}."]
    return [*(f"Train {each.sentence}." for each in recommended), f"This plan: {said}."]


def facts(gathered: Gathered) -> list[tuple[str, str]]:
    """The plan in a few lines, each with its name.

    gathered: the run.
    """
    plan, profile = gathered.plan, gathered.profile
    share = plan.parameters / max(profile.inventory.parameters, 1)
    allowed = f" of {plan.limit:,} allowed ({plan.parameters / plan.limit:.1%})" if plan.limit else ""
    found = [
        ("Layers", f"{len(plan.decisions)}, {_methods(gathered)}"),
        ("Trainable", f"{plan.parameters:,} parameters{allowed}, {share:.2%} of the model"),
    ]
    if plan.heads:
        names = ", ".join(head.name for head in plan.heads)
        found.append(("Beside them", f"{plan.head_parameters:,} parameters of the head ({names}), trained in full"))
    if gathered.frontier is not None:
        own, uniform = gathered.frontier.own, gathered.frontier.uniform
        text = f"{own.gain:.4f}"
        if uniform is not None and uniform.strategy != own.strategy:
            text += f"; uniform at the same budget: {uniform.gain:.4f}"
        found.append(("Predicted gain", f"{text} (a prediction, no measurement)"))
    if plan.certificate is not None:
        found.append(("Certificate", _certified(plan.certificate)))
    if known := profile.stability:
        ranked = ", ".join(f"{metric} {value:.2f}" for metric, value in known.items())
        found.append(("Stability", f"{ranked} (1: halves of the samples rank the layers alike, 0: chance)"))
    return found


def notes(gathered: Gathered) -> list[str]:
    """What weakens or explains the plan as a whole.

    gathered: the run.
    """
    plan, profile = gathered.plan, gathered.profile
    found = stability_lines(profile)[bool(profile.stability) :]  # the first is a fact
    if profile.evidence is not None:
        found.append(f"labels: {profile.evidence.sentence}")
    if plan.abstained is not None:
        found.append(f"abstained from {plan.request.strategy}, as {plan.abstained}")
    return [*found, *plan.notes, *gathered.lacking]


def _methods(gathered: Gathered) -> str:
    """How many layers have which method: ``all with lora``, ``5 with lora, 1 frozen``."""
    counts = Counter(each.method for each in gathered.plan.decisions)
    return ", ".join(
        f"{'all' if len(counts) == 1 else count} {'frozen' if method == 'none' else f'with {method}'}"
        for method, count in counts.most_common()
    )


def _certified(certificate: Certificate) -> str:
    gap = f"at most {certificate.gap:.2g} below the best plan"
    if certificate.gap <= 1e-9:
        gap = "an optimum"
    return f"gain {certificate.value:.4f} of at most {certificate.bound:.4f}: {gap}"
