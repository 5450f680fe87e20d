"""The profile's own derivations: metrics' scores from its statistics, and counts from its inventory."""

from typing import cast

from attrs import asdict

from layerlens_core.auditing.fields import within
from layerlens_core.auditing.sheet import Sheet
from layerlens_core.errors import LayerLensError, PluginError, brief
from layerlens_core.files.run import PROFILE
from layerlens_core.plugin.protocols import Score
from layerlens_core.plugin.providers import MetricProvider
from layerlens_core.plugin.registry import Registry
from layerlens_core.values.profile import Profile
from layerlens_core.values.scores import RawScores

_FROM_STATISTICS = "it follows from the profile's statistics by the metric {}"


def replay_scores(profile: Profile, registry: Registry, sheet: Sheet) -> None:
    """Score every module anew where that takes nothing but the profile's statistics.

    profile: of the run.
    registry: of providers.
    sheet: for what is found.
    """
    _check_counts(profile, sheet)
    for index, recorded in enumerate(profile.scores):
        what = f"{PROFILE}: the scores of {recorded.metric}"
        try:
            provider = registry.get("metric", recorded.metric)
            function = None if provider.active else registry.load("metric", recorded.metric)
        except PluginError as error:
            sheet.skip(what, brief(error))
            continue
        if function is None:
            sheet.skip(what, "the metric runs the model")
            _compare_words(recorded, provider, f"scores[{index}]", sheet)
            continue
        if recorded.errors:
            sheet.skip(f"{what}: their standard errors", "they come from parts of the samples, which are not kept")
        _compare_words(recorded, provider, f"scores[{index}]", sheet)
        _compare_values(profile, recorded, cast(Score, function), f"scores[{index}]", sheet)
    if profile.stability or profile.module_stability:
        sheet.skip(f"{PROFILE}: stability", "it compares halves of the samples, which are not kept")


def _compare_words(recorded: RawScores, provider: MetricProvider, at: str, sheet: Sheet) -> None:
    """What the metric's provider says of its scores."""
    names = ("unit", "granularity", "reduction")
    sheet.compare(
        PROFILE, "scores, what they are",
        {name: getattr(provider, name) for name in names},
        {name: getattr(recorded, name) for name in names},
        at=at, why=f"the metric {recorded.metric} says so of itself",
    )  # fmt: skip


def _compare_values(profile: Profile, recorded: RawScores, score: Score, at: str, sheet: Sheet) -> None:
    expected = {}
    for index, statistics in enumerate(profile.statistics):
        try:
            expected[statistics.module] = score(statistics)
        except LayerLensError as error:
            why = f"{recorded.metric} cannot be computed from it: {brief(error)}"
            sheet.find(PROFILE, f"statistics[{index}]", None, asdict(statistics), why, "derivation")
            return
    why = _FROM_STATISTICS.format(recorded.metric)
    sheet.compare(PROFILE, "scores, from statistics", expected, dict(recorded.values), at=within(at, "values"), why=why)


def _check_counts(profile: Profile, sheet: Sheet) -> None:
    """How many weights and samples statistics are of."""
    weights = {module.name: module.in_features * module.out_features for module in profile.inventory.modules}
    group = profile.settings.get("group")
    for index, statistics in enumerate(profile.statistics):
        at = f"statistics[{index}]"
        expected = {"weights": weights.get(statistics.module)}
        if group is not None:
            expected["group_size"] = int(group)
        found = {name: getattr(statistics, name) for name in expected}
        sheet.compare(PROFILE, "statistics, counts", expected, found, at=at, why="inventory and settings say so")
