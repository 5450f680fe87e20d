"""Find the installed plugins and load each alone, so that one that fails never hides the others."""

import os
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import redirect_stdout
from importlib.metadata import EntryPoint, entry_points
from typing import cast

import pluggy
from attrs import evolve, frozen

from layerlens_core.errors import PluginError, nearest
from layerlens_core.plugin import hookspecs
from layerlens_core.plugin.deadline import within
from layerlens_core.plugin.hookspecs import HOOKS, PROJECT
from layerlens_core.plugin.providers import KINDS, Provider, kind_of

ENTRY_POINT_GROUP = "layerlens"
#: The distribution of the plugins that come along.
OURS = "layerlens-core"
DISABLE_VARIABLE = "LAYERLENS_DISABLE_PLUGINS"
TIMEOUT_VARIABLE = "LAYERLENS_PLUGIN_TIMEOUT"
#: Seconds that a plugin may take to be imported and to list its providers, unless the variable says otherwise.
SECONDS = 120.0
#: Records that one hook may give.
MOST_PROVIDERS = 10_000


@frozen(kw_only=True)
class Plugin:
    """A plugin that was found, and what became of it.

    name: of the entry point.
    distribution: the installed distribution that it came in.
    version: of the distribution.
    status: ``"loaded"``, ``"failed"`` or ``"blocked"``.
    cause: why it is not loaded.
    where: file and line at which the plugin failed, unless the cause says all.
    """

    name: str
    distribution: str
    version: str = ""
    status: str = "loaded"
    cause: str = ""
    where: str = ""

    def __str__(self) -> str:
        return f"{self.name} ({self.distribution})" if self.distribution != self.name else self.name


def discover(blocked: Iterable[str] = ()) -> Iterator[tuple[Plugin, list[Provider]]]:
    """Every plugin of the entry-point group ``layerlens`` with its providers, sorted by distribution and name.

    blocked: entry-point or distribution names that are not even imported; the environment variable
        ``LAYERLENS_DISABLE_PLUGINS`` (comma-separated) adds to them.
    """
    refused = {canonical(name) for name in (*blocked, *os.environ.get(DISABLE_VARIABLE, "").split(","))}
    points = sorted(
        entry_points(group=ENTRY_POINT_GROUP),
        # The distribution that carries the core comes first, so that built-ins load before third parties.
        key=lambda point: (_distribution(point)[0] != OURS, _distribution(point), point.name),
    )
    for point in points:
        distribution, version = _distribution(point)
        plugin = Plugin(name=point.name, distribution=distribution, version=version)
        if {canonical(point.name), canonical(distribution)} & refused:
            yield evolve(plugin, status="blocked", cause="blocked by name, not imported"), []
            continue
        try:
            # A plugin may raise anything on import, SystemExit included; only an interrupt is the user's.
            # What it prints would end up in somebody's JSON, so it goes to standard error.
            with redirect_stdout(sys.stderr), within(_seconds()):
                providers = providers_of(point.load())
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            yield evolve(plugin, status="failed", cause=describe(error), where=place_of(error)), []
        else:
            yield plugin, providers


def providers_of(plugin: object) -> list[Provider]:
    """Check one plugin against the hook specs, by itself, and collect what its hooks return."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(plugin)
    callers = manager.get_hookcallers(plugin) or []
    for caller in callers:
        if not caller.has_spec() and not all(each.optionalhook for each in caller.get_hookimpls()):
            raise PluginError(f"{caller.name} is no hook of LayerLens.{nearest(caller.name, HOOKS)}")
    for name in dir(plugin):
        function = getattr(plugin, name) if name.startswith(f"{PROJECT}_") else None
        if not callable(function) or hasattr(function, f"{PROJECT}_impl"):
            continue
        if name in HOOKS:
            raise PluginError(f"{name} is not marked with @layerlens_core.hookimpl, so it would never be called")
        raise PluginError(f"{name} is no hook of LayerLens.{nearest(name, HOOKS)}")
    implemented = sorted(caller.name for caller in callers if caller.has_spec())
    if not implemented:
        raise PluginError("it implements no hook; mark its functions with @layerlens_core.hookimpl")
    providers = [provider for hook in implemented for provider in _called(manager, hook)]
    names = [(kind_of(provider), provider.name) for provider in providers]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise PluginError(f"it provides {' '.join(twice[0])} twice")
    return providers


def _called(manager: pluggy.PluginManager, hook: str) -> list[Provider]:
    """Call one hook of the one plugin in the manager, and check that it gives records of the hook's type."""
    expected = KINDS[HOOKS[hook]]
    contract = f"{hook} must give an iterable of {expected.__name__} records"
    results = getattr(manager.hook, hook)()
    if not results:  # pluggy leaves None out
        raise PluginError(f"{contract}, but returned None")
    providers: list[Provider] = []
    for result in results:
        if not isinstance(result, Iterable):
            raise PluginError(f"{contract}, but returned one {type(result).__name__}")
        for provider in result:
            if not isinstance(provider, expected):
                raise PluginError(f"{contract}, but gave {type(provider).__name__}")
            providers.append(cast(Provider, provider))
            if len(providers) > MOST_PROVIDERS:
                raise PluginError(f"{hook} gives more than {MOST_PROVIDERS:,} records; does it ever end?")
    return providers


def _seconds() -> float:
    """Seconds that a plugin may take to be found."""
    text = os.environ.get(TIMEOUT_VARIABLE, "")
    try:
        return float(text) if text else SECONDS
    except ValueError:
        raise PluginError(f"{TIMEOUT_VARIABLE} is {text!r}; it must be a number of seconds") from None


def describe(error: BaseException) -> str:
    """An error in one line: its message, after its type unless it is a `PluginError`."""
    try:
        text = " ".join(str(error).split())
    except Exception:  # an error that cannot be printed must not hide the others
        text = ""
    if isinstance(error, PluginError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def place_of(error: BaseException) -> str:
    """File and line of the last step into an error; nothing for our own, which say all in their words."""
    steps = [step for step in traceback.extract_tb(error.__traceback__) if not step.filename.startswith("<frozen ")]
    return "" if isinstance(error, PluginError) or not steps else f"{steps[-1].filename}:{steps[-1].lineno}"


def _distribution(point: EntryPoint) -> tuple[str, str]:
    """Name and version, as far as the metadata tells: an uninstall that failed leaves entry points without them."""
    try:
        name, version = (point.dist.name, point.dist.version) if point.dist is not None else ("", "")
    except Exception:  # Python 3.11 gives None for what is missing, later ones raise
        name, version = "", ""
    return name or "unknown", version or ""


def canonical(name: str) -> str:
    return name.strip().lower().replace("_", "-").replace(".", "-")
