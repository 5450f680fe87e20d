"""Which inputs of two runs differ, in words, and how each is taken from the second."""

from collections.abc import Callable, Mapping
from typing import Any

import attrs
from attrs import field, frozen

from layerlens_core.auditing.differing.asked import asked_of, described
from layerlens_core.auditing.differing.measured import (
    EXTRAS,
    differing_extras,
    differing_parts,
    differing_roots,
    metrics_of,
    with_measured,
    with_metrics,
)
from layerlens_core.auditing.differing.replay import Take
from layerlens_core.auditing.differing.side import Side
from layerlens_core.plugin.registry import Registry
from layerlens_core.values.profile import Profile
from layerlens_core.values.request import Request

#: In which order fields of a request are told; others follow.
_ORDER = ("weights", "normalizer", "aggregator", "strategy", "options", "granularity", "abstain", "budget", "methods")


@frozen(kw_only=True)
class Input:
    """An input that differs.

    name: of the input, or of several that cannot be told apart.
    before: in words.
    after: in words.
    take: takes it from the second run; None for what cannot be: versions and plugins.
    of_here: whether versions or plugins are in it, in place of which those that are installed here plan.
    parts: of an input that was measured, by name, how each of its results that differ is taken alone.
    """

    name: str
    before: str
    after: str
    take: Take | None = None
    of_here: bool = False
    parts: Mapping[str, Take] = field(factory=dict)


@frozen(kw_only=True)
class Inputs:
    """All inputs that differ.

    found: in the order in which they are told and taken.
    asked: fields of the first run's request, as they were asked for (`layerlens_core.auditing.differing.asked.Asked`).
    """

    found: tuple[Input, ...]
    asked: Mapping[str, Any]


def differing_inputs(first: Side, second: Side, registry: Registry) -> Inputs:
    """The inputs in which two runs differ.

    first: a run.
    second: the other.
    registry: of providers.
    """
    here = _of_here(first, second)
    found = _measured(first, second, here)
    if found and found[0].of_here:
        here = {}
    same_model = first.profile.inventory == second.profile.inventory
    metrics = metrics_of(first.profile), metrics_of(second.profile)
    if same_model and set(metrics[0]) != set(metrics[1]):
        found.append(
            Input(
                name="metrics",
                before=", ".join(metrics[0]),
                after=", ".join(metrics[1]),
                take=lambda profile, request: (with_metrics(profile, metrics[1], second.profile), request),
            )
        )
    asked = asked_of(first, second, registry)
    requests = first.plan.request, second.plan.request
    for name in sorted(asked.differing, key=lambda name: _ORDER.index(name) if name in _ORDER else len(_ORDER)):
        pair = asked.differing[name]
        before, after = described(name, pair, requests)
        found.append(Input(name=name, before=before, after=after, take=_taking(name, pair[1], requests[1])))
    if here:
        found.append(_named(here, of_here=True))
    return Inputs(found=tuple(found), asked=asked.first)


def _measured(first: Side, second: Side, here: Mapping[str, tuple[str, str]]) -> list[Input]:
    """What was measured, with what it follows from, where that differs."""
    profiles = first.profile, second.profile
    roots = differing_roots(*profiles, files=(first.data, second.data))
    extras = differing_extras(*profiles)
    if "model" in roots:
        metrics = tuple(", ".join(metrics_of(profile)) for profile in profiles)
        roots |= {"metrics": (metrics[0], metrics[1])} if metrics[0] != metrics[1] else {}
        roots |= {**extras, **here}
        return [_named(roots, of_here=bool(here), take=lambda _, request: (second.profile, request))]
    parts = differing_parts(*profiles)
    found = []
    if roots or parts:
        same = "of the same data, settings and versions"
        found.append(
            _named(
                {**roots, **(here if parts else {})} or {"measurements": (same, "the same, with other results")},
                of_here=bool(parts and here),
                take=lambda profile, request: (with_measured(profile, second.profile, extras), request),
                parts={part.name: _from(part.taken, second.profile) for part in parts},
            )
        )
    return found + [_named({name: pair}, take=_from(EXTRAS[name], second.profile)) for name, pair in extras.items()]


def _named(roots: Mapping[str, tuple[str, str]], **more: Any) -> Input:
    texts = (
        "; ".join(f"{name} {pair[side]}" if len(roots) > 1 else pair[side] for name, pair in roots.items())
        for side in (0, 1)
    )
    before, after = texts
    *names, last = roots
    return Input(name=f"{', '.join(names)} and {last}" if names else last, before=before, after=after, **more)


def _taking(name: str, value: Any, request: Request) -> Take:
    taken = {name: value} | ({"options": request.options} if name == "strategy" else {})

    def take(profile: Profile, request: Request) -> tuple[Profile, Request]:
        return profile, attrs.evolve(request, **taken)

    return take


def _from(taken: Callable[[Profile, Profile], Profile], second: Profile) -> Take:
    return lambda profile, request: (taken(profile, second), request)


def _of_here(first: Side, second: Side) -> dict[str, tuple[str, str]]:
    """Versions and plugins that differ, as far as both runs tell."""
    stages = (
        (first.profile.versions, second.profile.versions),
        (first.versions or {}, second.versions or {}) if first.versions and second.versions else ({}, {}),
    )
    plugins = (first.plugins, second.plugins)
    found = {
        "versions": _unlike(stages),
        "plugins": ("", "") if None in plugins else _unlike((plugins,)),  # type: ignore[arg-type]
    }
    return {name: pair for name, pair in found.items() if pair != ("", "")}


def _unlike(pairs: tuple[tuple[Mapping[str, str], Mapping[str, str]], ...]) -> tuple[str, str]:
    texts: tuple[dict[str, None], dict[str, None]] = ({}, {})
    for one, other in pairs:
        for name in sorted({*one, *other}):
            if one.get(name) != other.get(name):
                for text, values in zip(texts, (one, other), strict=True):
                    text[f"{name} {values.get(name, 'not there')}"] = None
    return ", ".join(texts[0]), ", ".join(texts[1])
