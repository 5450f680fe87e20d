"""How a run was made: what was asked, what was measured, the recipe, versions and digests."""

from layerlens_core.reporting.gather import Gathered
from layerlens_core.reporting.tables import by_name
from layerlens_core.values.request import Request

#: A title, and facts with their names.
Section = tuple[str, list[tuple[str, str]]]


def making(gathered: Gathered) -> list[Section]:
    """All that a run's numbers depend on; facts of which nothing is known are left out.

    gathered: the run.
    """
    found = [_asked(gathered), _measured(gathered), *_recipe(gathered), *_command(gathered), _versions(gathered)]
    return [(title, [(name, text) for name, text in rows if text]) for title, rows in [*found, _digests(gathered)]]


def _asked(gathered: Gathered) -> Section:
    request = gathered.plan.request
    training = request.training
    step = f"{training.batch} samples of {training.length} tokens, {training.optimizer}, {training.dtype}"
    return "What was asked", [
        ("budget", " ".join(request.budget) or "unlimited"),
        ("strategy", request.strategy),
        ("options", by_name(request.options)),
        ("methods", ", ".join(request.methods or ())),
        ("weights", by_name(request.weights or {})),
        ("penalties", by_name(request.penalties)),
        ("normaliser", request.normalizer),
        ("aggregator", request.aggregator),
        ("sizes follow", f"the utility of each {request.granularity}"),
        ("α/r", f"{request.scale:g}"),
        ("ranks", _ranks(request)),
        ("training step", step),
        ("measured gains", "; ".join(f"{name}: {curve.source}" for name, curve in request.gains.items())),
    ]


def _ranks(request: Request) -> str:
    """What bounds them; nothing where the methods' own bounds do."""
    bounds = {"at least": request.min_rank, "at most": request.max_rank}
    return ", ".join(f"{words} {rank}" for words, rank in bounds.items() if rank is not None)


def _measured(gathered: Gathered) -> Section:
    profile = gathered.profile
    return "What was measured", [
        ("task", profile.task),
        ("samples", f"{profile.samples:,}"),
        ("loss before training", f"{profile.loss:.4f} nats"),
        ("classes", ", ".join(profile.labels)),
        *((name.replace("_", " "), str(value)) for name, value in profile.settings.items()),
        ("not scored", "; ".join(f"{each.name}: {each.reason}" for each in profile.unscored)),
    ]


def _recipe(gathered: Gathered) -> list[Section]:
    recipe = gathered.recipe
    if recipe is None:
        return []
    keys = [(name, str(value)) for name, value in recipe.keys.items()]
    return [
        ("The recipe", [("found", recipe.sentence), ("advice", recipe.advice), ("rates", by_name(recipe.rates)), *keys])
    ]


def _command(gathered: Gathered) -> list[Section]:
    started = gathered.started
    if started is None:
        return []
    given = [
        (name.replace("_", " "), ", ".join(map(str, value)) if isinstance(value, list) else str(value))
        for name, value in started["arguments"].items()
    ]
    return [(f"The command: layerlens {started['command']}", given)]


def _versions(gathered: Gathered) -> Section:
    plugins = ", ".join(
        f"{event.get('plugin')} ({event.get('distribution')} {event.get('version')})"
        for event in gathered.events.get("plugin.loaded", ())
    )
    return "Versions", [*gathered.profile.versions.items(), ("plugins", plugins)]


def _digests(gathered: Gathered) -> Section:
    plan, comparison = gathered.plan, gathered.comparison
    return "Digests", [
        ("plan", plan.digest),
        ("model", plan.fingerprint),
        ("data", gathered.profile.data),
        ("directions", plan.directions or ""),
        ("subspace", plan.subspace or ""),
        ("comparison’s setting", "" if comparison is None else comparison.setting),
    ]
