"""Sentences on a profile and a plan that terminals and pages share."""

from collections.abc import Mapping, Sequence

from layerlens_core.allocation.reliability import doubts
from layerlens_core.values.profile import Profile
from layerlens_core.values.table import spelled

#: What a profile says of how samples shared batches.
_BATCHES = {
    "equal lengths": "only samples of one length shared a batch, since padding changes what this model computes",
    "alone": "every sample ran by itself, since others in its batch would have changed or hidden its part",
}


def stability_lines(profile: Profile) -> list[str]:
    """A line on how far rankings can be trusted, warnings, and one on where ``--samples auto`` ended."""
    settings, samples = profile.settings, profile.samples
    known = profile.stability
    found = ", ".join(f"{metric} {value:.2f}" for metric, value in known.items())
    lines = [f"halves of the {samples} samples rank the layers alike: {found} (1: the same order, 0: chance)"]
    if not found:
        lines.clear()
    if unknown := [scores.metric for scores in profile.scores if scores.metric not in known]:
        lines.append(
            f"how stable the ranking by {', '.join(unknown)} is, is not known: that takes three layers and four groups "
            "of samples, and a metric that is a mean over samples, or gives standard errors or scores of halves"
        )
    lines += [f"warning: {doubt}" for doubt in doubts(profile)]
    if settings.get("batches") in _BATCHES:
        lines.append(_BATCHES[str(settings["batches"])])
    if "samples_at_most" in settings:
        most, bound = settings["samples_at_most"], settings["settled_from"]
        lines.append(
            f"--samples auto: {samples} of at most {most}, where all of these are at least {bound:.2f}"
            if settings["settled"]
            else f"--samples auto: all {samples}, and not all of these are at least {bound:.2f}; more samples may help"
        )
    return lines


def common_prefix(names: Sequence[str]) -> str:
    """What all names begin with, up to a dot; nothing for a single name."""
    if len(names) < 2:
        return ""
    shared = []
    for parts in zip(*(name.split(".")[:-1] for name in names), strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(f"{parts[0]}.")
    return "".join(shared)


def describe_sizes(by_module: Mapping[str, int]) -> str:
    """A layer's size; where its modules differ, the smallest and the largest."""
    return spelled(list(by_module.values()))
