"""What of a profile planning reads, and taking it from another profile of the same model."""

from collections.abc import Callable, Mapping
from typing import Any

import attrs
from attrs import frozen

from layerlens_core.values.profile import Profile

#: Settings that say what was found, not what was asked for.
_FOUND = frozenset({"metrics", "settled", "batches", "samples_at_most"})


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
    """Names of the metrics, in the profile's order."""
    return tuple(each.metric for each in profile.scores)


def with_metrics(profile: Profile, names: tuple[str, ...], other: Profile) -> Profile:
    """The profile with these metrics: its own where it has them, else the other's.

    profile: to change.
    names: of the metrics, in order.
    other: has all that the profile lacks.
    """
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


def with_measured(profile: Profile, other: Profile) -> Profile:
    """All that the other profile measured, by the metrics of the first: those that both have are the other's."""
    return with_metrics(other, metrics_of(profile), profile)


def differing_parts(first: Profile, second: Profile) -> tuple[Part, ...]:
    """The results in which two profiles of one model differ, of those that planning reads."""
    return tuple(part for part in _parts(first, second) if part.of(first) != part.of(second))


def _parts(first: Profile, second: Profile) -> list[Part]:
    shared = tuple(name for name in metrics_of(first) if name in metrics_of(second))
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
        Part(
            "spectra",
            lambda profile: {each.module: each.spectrum for each in profile.statistics if each.spectrum},
            lambda profile, other: attrs.evolve(profile, statistics=other.statistics),
        ),
        Part(
            "subspaces",
            lambda profile: [
                None if each is None else each.rank for each in (profile.subspace_of_warm_up, profile.subspace)
            ],
            lambda profile, other: attrs.evolve(profile, warm_up=other.warm_up, directions=other.directions),
        ),
        _field("number of samples", "samples"),
        _field("activations", "activations"),
        _field("latency", "latency"),
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


def differing_roots(first: Profile, second: Profile) -> dict[str, tuple[str, str]]:
    """By name, the inputs of measuring in which two profiles differ, in words: what numbers follow from."""
    found = {
        "model": (_model(first), _model(second)) if first.inventory != second.inventory else ("", ""),
        "task": (first.task, second.task),
        "data": (_data(first), _data(second)),
        "settings": _settings(first, second),
        "warm-up": (_warm_up(first), _warm_up(second)),
    }
    for name in ("directions", "spectrum", "latency"):
        found[name] = _whether(name, first), _whether(name, second)
    return {name: (one, other) for name, (one, other) in found.items() if one != other}


def _whether(name: str, profile: Profile) -> str:
    there = {
        "directions": profile.directions is not None,
        "spectrum": any(each.spectrum for each in profile.statistics),
        "latency": bool(profile.latency),
    }
    return "measured" if there[name] else "not measured"


def _model(profile: Profile) -> str:
    inventory = profile.inventory
    return f"{inventory.architecture} of {inventory.parameters:,} parameters ({inventory.fingerprint[:12]})"


def _data(profile: Profile) -> str:
    return f"{profile.samples:,} samples ({profile.data[:12]})"


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
