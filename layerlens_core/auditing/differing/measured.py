"""What of a profile planning reads, and taking it from another profile of the same model."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import attrs
from attrs import frozen

from layerlens_core.allocation.problem import BESIDE_WARM_UP
from layerlens_core.values.profile import Profile

#: Settings that say what was found, not what was asked for.
_FOUND = frozenset(
    {"metrics", "settled", "batches", "samples_at_most", "rows", "rows_cut", "rows_left_out", "problem_type"}
)


@frozen
class Part:
    """A result of measuring.

    name: in words.
    of: what it is in a profile, to compare.
    taken: a profile with the part of another one.
    """

    name: str
    of: Callable[[Profile], Any]
    taken: Callable[[Profile, Profile], Profile]


def metrics_of(profile: Profile) -> tuple[str, ...]:
    """Names of the metrics that were asked for, in the profile's order: what comes along with a warm-up was not."""
    names = tuple(each.metric for each in profile.scores)
    if profile.warm_up is None or len(names) < 2:
        return names
    return tuple(name for name in names if name != BESIDE_WARM_UP)


def with_metrics(profile: Profile, names: tuple[str, ...], other: Profile) -> Profile:
    """The profile with these metrics: its own where it has them, else the other's; and what came with its warm-up.

    profile: to change.
    names: of the metrics, in order.
    other: has all that the profile lacks.
    """
    beside = [each.metric for each in profile.scores if each.metric not in metrics_of(profile)]
    names = (*names, *(name for name in beside if name not in names))
    own, others = ({each.metric: each for each in one.scores} for one in (profile, other))

    def known(field: str) -> dict[str, float]:
        sources = {name: getattr(profile if name in own else other, field) for name in names}
        return {name: source[name] for name, source in sources.items() if name in source}

    return attrs.evolve(
        profile,
        scores=tuple(own.get(name) or others[name] for name in names),
        stability=known("stability"),
        module_stability=known("module_stability"),
    )


def fitting(weights: Mapping[str, float] | None, profile: Profile) -> Mapping[str, float] | None:
    """Weights for a profile: what comes along with a warm-up has none, and is left out where there is no warm-up.

    weights: that were asked for.
    profile: that they are to weigh.
    """
    if weights is None:
        return None
    there = {each.metric for each in profile.scores}
    kept = {name: weight for name, weight in weights.items() if name != BESIDE_WARM_UP or weight or name in there}
    return kept | {name: 0.0 for name in there - set(kept) if name == BESIDE_WARM_UP}


def with_measured(profile: Profile, other: Profile, apart: Collection[str] = ()) -> Profile:
    """All that the other profile measured, by the metrics of the first: those that both have are the other's.

    profile: to change.
    other: another of the same model.
    apart: of `EXTRAS`, those that stay as they are.
    """
    found = with_metrics(other, metrics_of(profile), profile)
    for name in apart:
        found = EXTRAS[name](found, profile)
    return found


def _with_warm_up(profile: Profile, other: Profile) -> Profile:
    """The profile with the other's warm-up, and with the score that came along."""
    asked = metrics_of(profile)
    own = tuple(each for each in profile.scores if each.metric in asked)
    beside = tuple(each for each in other.scores if each.metric not in (*metrics_of(other), *asked))

    def known(field: str) -> dict[str, float]:
        come = tuple(each.metric for each in beside)
        return _of(getattr(profile, field), asked) | _of(getattr(other, field), come)

    return attrs.evolve(
        profile,
        warm_up=other.warm_up,
        scores=(*own, *beside),
        stability=known("stability"),
        module_stability=known("module_stability"),
    )


#: What is measured besides scores, where it is asked for, and how it is taken from another profile.
EXTRAS: Mapping[str, Callable[[Profile, Profile], Profile]] = {
    "warm-up": _with_warm_up,
    "directions": lambda profile, other: attrs.evolve(profile, directions=other.directions),
    "spectrum": lambda profile, other: attrs.evolve(profile, statistics=other.statistics),
    "latency": lambda profile, other: attrs.evolve(profile, latency=other.latency),
}


def differing_parts(first: Profile, second: Profile) -> tuple[Part, ...]:
    """The results in which two profiles of one model differ, of those that planning reads and both have."""
    parts = [*_parts(first, second)]
    apart = differing_extras(first, second)
    parts += [_field("latency", "latency")] if "latency" not in apart else []
    parts += [Part("spectra", _spectra, EXTRAS["spectrum"])] if "spectrum" not in apart else []
    return tuple(part for part in parts if part.of(first) != part.of(second))


def _spectra(profile: Profile) -> object:
    return {each.module: each.spectrum for each in profile.statistics if each.spectrum}


def _parts(first: Profile, second: Profile) -> list[Part]:
    there = {each.metric for each in second.scores}
    shared = tuple(each.metric for each in first.scores if each.metric in there)
    return [
        *(_scores_of(name) for name in shared),
        Part(
            "stability",
            lambda profile: [_of(profile.stability, shared), _of(profile.module_stability, shared)],
            lambda profile, other: attrs.evolve(
                profile,
                stability={**profile.stability, **_of(other.stability, shared)},
                module_stability={**profile.module_stability, **_of(other.module_stability, shared)},
            ),
        ),
        _field("number of samples", "samples"),
        _field("activations", "activations"),
        _field("evidence of labels", "evidence"),
        _field("modules without a score", "unscored"),
    ]


def _scores_of(metric: str) -> Part:
    def taken(profile: Profile, other: Profile) -> Profile:
        theirs = {each.metric: each for each in other.scores}
        return attrs.evolve(
            profile, scores=tuple(theirs[metric] if each.metric == metric else each for each in profile.scores)
        )

    return Part(
        f"scores of {metric}", lambda profile: [each for each in profile.scores if each.metric == metric], taken
    )


def _field(name: str, field: str) -> Part:
    return Part(
        name,
        lambda profile: getattr(profile, field),
        lambda profile, other: attrs.evolve(profile, **{field: getattr(other, field)}),
    )


def _of(values: Mapping[str, float], names: tuple[str, ...]) -> dict[str, float]:
    return {name: values[name] for name in names if name in values}


def differing_roots(first: Profile, second: Profile, files: tuple[str, str]) -> dict[str, tuple[str, str]]:
    """By name, the inputs of measuring in which two profiles differ, in words: what numbers follow from.

    first: a profile.
    second: the other.
    files: where the data of each was read from, for the words; empty where that is not known.
    """
    found = {
        "model": (_model(first), _model(second)) if first.inventory != second.inventory else ("", ""),
        "task": (first.task, second.task),
        "data": ("", "") if _same_data(first, second) else (_data(first, files[0]), _data(second, files[1])),
        "settings": _settings(first, second),
    }
    return {name: (one, other) for name, (one, other) in found.items() if one != other}


def differing_extras(first: Profile, second: Profile) -> dict[str, tuple[str, str]]:
    """By name, those of `EXTRAS` that were asked for in one profile alone, or in another way, in words."""
    found = {name: (_whether(name, first), _whether(name, second)) for name in EXTRAS}
    return {name: (one, other) for name, (one, other) in found.items() if one != other}


def _whether(name: str, profile: Profile) -> str:
    if name == "warm-up":
        return _warm_up(profile)
    there = {
        "directions": profile.directions is not None,
        "spectrum": any(each.spectrum for each in profile.statistics),
        "latency": bool(profile.latency),
    }
    return "measured" if there[name] else "not measured"


def _model(profile: Profile) -> str:
    inventory = profile.inventory
    return f"{inventory.architecture} of {inventory.parameters:,} parameters ({inventory.fingerprint[:12]})"


def _same_data(first: Profile, second: Profile) -> bool:
    return (first.data, first.samples) == (second.data, second.samples)


def _data(profile: Profile, file: str) -> str:
    return f"{file}{', ' if file else ''}{profile.samples:,} samples ({profile.data[:12]})"


def _settings(first: Profile, second: Profile) -> tuple[str, str]:
    names = sorted({*first.settings, *second.settings} - _FOUND)
    names = [name for name in names if first.settings.get(name) != second.settings.get(name)]
    one, other = (
        ", ".join(f"{name} {profile.settings.get(name, 'not set')}" for name in names) for profile in (first, second)
    )
    return one, other


def _warm_up(profile: Profile) -> str:
    found = profile.warm_up
    if found is None:
        return "none"
    return f"{found.steps} steps of {found.batch} at rank {found.rank} and rate {found.rate:.3g}"
