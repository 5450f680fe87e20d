"""Whether a profile supports any departure from uniform: where it does not, the plan is uniform and says why.

Uniform LoRA is hard to beat: the best allocation that was measured is worth about a tenth more parameters, and one by
noise costs as much (docs/evidence.md). So a plan that departs from it has to rest on enough samples, on an order of the
modules that halves of the samples agree on, and on scores that can be told apart. Where a profile also says whether the
labels have to do with the inputs (`layerlens_core.values.profile.Evidence`), they must: scores of data whose labels
mean nothing are as stable as any others.

The predicted gain is no criterion. A plan's gain over uniform by its own utilities is above 0 by construction, and a
profile keeps of their uncertainty a rank correlation between halves alone, from which no error of a gain follows. Nor
would a sure utility make it so: the signals have the depth wrong (docs/evidence.md). What a plan gains, `compare` says.
"""

import math
from collections.abc import Mapping, Sequence

from layerlens_core.values.candidates import CandidateSet
from layerlens_core.values.profile import Profile
from layerlens_core.values.scores import Granularity

#: Fewer samples tell nothing that is worth a departure.
LEAST_SAMPLES = 16
#: The rank correlation between halves of the samples that an order needs.
LEAST_STABILITY = 0.5
#: Labels that mean nothing seem to mean something in so many profiles.
LEVEL = 0.01


def abstention(
    profile: Profile, weights: Mapping[str, float], candidates: CandidateSet, granularity: Granularity
) -> str | None:
    """Why a plan from this profile should be uniform, in numbers; None where it may depart from that.

    profile: what was measured.
    weights: of the metrics, as resolved.
    candidates: with the utilities of layers and of their modules.
    granularity: whose utilities decide.
    """
    if profile.samples < LEAST_SAMPLES:
        return f"{profile.samples} samples are fewer than {LEAST_SAMPLES}"
    if _alike(candidates, granularity):
        return f"no {granularity} can be told from another: all utilities are equal"
    known = profile.module_stability if granularity == "module" else profile.stability
    known = dict(profile.stability) | dict(known)
    weighed = {metric: weight for metric, weight in weights.items() if weight > 0}
    if not weighed.keys() & known.keys():
        return f"nothing is known of how stable the order by {', '.join(weighed)} is"
    stability = _mean([known[metric] for metric in weighed if metric in known],
                      [weight for metric, weight in weighed.items() if metric in known])  # fmt: skip
    if stability < LEAST_STABILITY:
        return (
            f"halves of the {profile.samples} samples order the {granularity}s alike by {stability:.2f} only, below "
            f"{LEAST_STABILITY:g}"
        )
    found = profile.evidence
    if found is not None and not found.p <= LEVEL:
        return f"the labels may have nothing to do with the inputs: {found.sentence}"
    return None


def _alike(candidates: CandidateSet, granularity: Granularity) -> bool:
    """Whether there is nothing to choose between units, nor between the modules that are scored."""
    utilities: set[float] = {unit.utility for unit in candidates.units}
    if granularity == "module":
        modules = {value for unit in candidates.units for value in unit.importance.values()}
        utilities = modules if any(modules) else utilities
    return len(utilities) < 2


def _mean(values: Sequence[float], weights: Sequence[float]) -> float:
    return math.fsum(v * (w / max(weights)) for v, w in zip(values, weights, strict=True)) / math.fsum(
        w / max(weights) for w in weights
    )
