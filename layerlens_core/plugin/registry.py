"""Find plugins, load each alone, and answer for every name, also for those that failed to come."""

import os
import sys
from collections.abc import Iterable, Mapping
from contextlib import redirect_stdout
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, cast

import pluggy
from attrs import define, field, frozen

from layerlens_core.errors import PluginError, nearest
from layerlens_core.plugin import hookspecs
from layerlens_core.plugin.hookspecs import HOOKS, PROJECT
from layerlens_core.plugin.providers import KINDS, Provider, kind_of

ENTRY_POINT_GROUP = "layerlens"
DISABLE_VARIABLE = "LAYERLENS_DISABLE_PLUGINS"
IN_PROCESS = "in process"

#: Providers that come in a distribution of their own, so that asking for one says what to install.
OFFICIAL_DISTRIBUTIONS = {("strategy", "cost-benefit"): "layerlens-plugin-costbenefit"}


@frozen(kw_only=True)
class Plugin:
    """A plugin that was found: its entry-point name, its distribution, and what became of it.

    status: ``"loaded"``, ``"failed"`` or ``"blocked"``; ``cause`` says why it is not loaded.
    """

    name: str
    distribution: str
    version: str = ""
    status: str = "loaded"
    cause: str = ""

    def __str__(self) -> str:
        return f"{self.name} ({self.distribution})" if self.distribution != self.name else self.name


@frozen
class _Entry:
    provider: Provider
    plugin: Plugin


@define
class Registry:
    """Providers by kind and name, and the plugins that they came from.

    One that fails never hides the others: it is kept with its cause in ``plugins``.
    """

    plugins: list[Plugin] = field(factory=list)
    _entries: dict[str, dict[str, _Entry]] = field(factory=lambda: {kind: {} for kind in KINDS})
    _ambiguous: dict[tuple[str, str], list[Plugin]] = field(factory=dict)

    @classmethod
    def discover(cls, blocked: Iterable[str] = ()) -> "Registry":
        """Load every plugin of the entry-point group ``layerlens``, sorted by distribution and name.

        blocked: entry-point or distribution names that are not even imported; the environment variable
            ``LAYERLENS_DISABLE_PLUGINS`` (comma-separated) adds to them.
        """
        refused = {_canonical(name) for name in (*blocked, *os.environ.get(DISABLE_VARIABLE, "").split(","))}
        registry = cls()
        points = sorted(
            entry_points(group=ENTRY_POINT_GROUP),
            # The distribution that carries the core comes first, so that built-ins load before third parties.
            key=lambda point: (_distribution(point)[0] != "layerlens-core", _distribution(point), point.name),
        )
        for point in points:
            distribution, version = _distribution(point)
            plugin = Plugin(name=point.name, distribution=distribution, version=version)
            if {_canonical(point.name), _canonical(distribution)} & refused:
                registry._fail(plugin, "blocked", "blocked by name, not imported")
                continue
            try:
                # A plugin may raise anything on import, SystemExit included; only an interrupt is the user's.
                # What it prints would end up in somebody's JSON, so it goes to standard error.
                with redirect_stdout(sys.stderr):
                    providers = _providers_of(point.load())
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                registry._fail(plugin, "failed", describe(error))
                continue
            registry._add(plugin, providers)
        return registry

    def register(self, *what: object) -> None:
        """Add providers, or a plugin object with hooks, in this process.

        Raises `PluginError` where a plugin breaks the contract or a name is already taken.
        """
        for item in what:
            if isinstance(item, tuple(KINDS.values())):
                name, providers = cast(Any, item).name, [cast(Provider, item)]
            else:
                name = getattr(item, "__name__", type(item).__name__)
                try:
                    providers = _providers_of(item)
                except Exception as error:
                    raise PluginError(f"plugin {name!r} cannot be registered: {describe(error)}") from error
            for provider in providers:
                kind = kind_of(provider)
                taken = self._entries[kind].get(provider.name)
                givers = [taken.plugin] if taken is not None else self._ambiguous.get((kind, provider.name))
                if givers:
                    raise PluginError(
                        f"{kind} {provider.name!r} is already provided by {' and '.join(map(str, givers))}; "
                        "choose another name"
                    )
            self._add(Plugin(name=name, distribution=IN_PROCESS), providers)

    def names(self, kind: str) -> list[str]:
        """The names of all usable providers of a kind, sorted."""
        return sorted(self._entries[kind])

    def providers(self, kind: str) -> Mapping[str, Provider]:
        """Usable providers of a kind by name, sorted by name."""
        return {name: self._entries[kind][name].provider for name in self.names(kind)}

    def plugin_of(self, kind: str, name: str) -> Plugin:
        """The plugin that gave a provider."""
        self.get(kind, name)
        return self._entries[kind][name].plugin

    def get(self, kind: str, name: str) -> Any:
        """The provider of that kind and name.

        Raises `PluginError` that names the nearest name, the distribution to install where one is known, and
        the plugins that failed and so may have given it.
        """
        entry = self._entries[kind].get(name)
        if entry is not None:
            return entry.provider
        if (kind, name) in self._ambiguous:
            rivals = " and ".join(map(str, self._ambiguous[kind, name]))
            raise PluginError(
                f"{kind} {name!r} is provided twice, by {rivals}, so neither is used; "
                f"uninstall one or block it ({DISABLE_VARIABLE}=NAME)"
            )
        message = f"no {kind} is named {name!r}; there are: {', '.join(self.names(kind)) or 'none'}."
        missing = [plugin for plugin in self.plugins if plugin.status != "loaded"]
        official = OFFICIAL_DISTRIBUTIONS.get((kind, name))
        if official is not None and official not in {_canonical(plugin.distribution) for plugin in missing}:
            message += f" It comes with {official}: pip install {official}"
        elif not missing or official is None:
            message += nearest(name, self.names(kind))
        if missing:
            named = "; ".join(f"{plugin} {plugin.status}: {plugin.cause}" for plugin in missing)
            message += f"\nIt may belong to a plugin that is not loaded: {named}"
        raise PluginError(message)

    def load(self, kind: str, name: str) -> Any:
        """The working object behind a provider. Raises `PluginError` where its own loading fails."""
        provider = self.get(kind, name)
        try:
            return provider.load()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # as on import: a plugin may exit
            plugin = self._entries[kind][name].plugin
            raise PluginError(f"{kind} {name!r} of plugin {plugin} failed to load: {describe(error)}") from error

    def _add(self, plugin: Plugin, providers: Iterable[Provider]) -> None:
        self.plugins.append(plugin)
        for provider in providers:
            kind, name = kind_of(provider), provider.name
            if (kind, name) in self._ambiguous:
                self._ambiguous[kind, name].append(plugin)
            elif name in self._entries[kind]:
                self._ambiguous[kind, name] = [self._entries[kind].pop(name).plugin, plugin]
            else:
                self._entries[kind][name] = _Entry(provider, plugin)

    def _fail(self, plugin: Plugin, status: str, cause: str) -> None:
        self.plugins.append(
            Plugin(
                name=plugin.name,
                distribution=plugin.distribution,
                version=plugin.version,
                status=status,
                cause=cause,
            )
        )

    @property
    def conflicts(self) -> list[str]:
        """Names that two plugins provide, each in a line."""
        return [
            f"{kind} {name!r} is provided by {' and '.join(map(str, rivals))}; neither is used"
            for (kind, name), rivals in sorted(self._ambiguous.items())
        ]


def _providers_of(plugin: object) -> list[Provider]:
    """Check one plugin against the hook specs, alone, and collect what its hooks return."""
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
    """Call one hook of the one plugin in the manager, and hold what it gives to the hook's record type."""
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
    return providers


def describe(error: BaseException) -> str:
    """An error in one line: its type, unless it is ours, and its message."""
    try:
        text = " ".join(str(error).split())
    except Exception:  # an error that cannot be printed must not hide the others
        text = ""
    if isinstance(error, PluginError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _distribution(point: EntryPoint) -> tuple[str, str]:
    """Name and version, as far as the metadata tells: an uninstall that failed leaves entry points without them."""
    try:
        name, version = (point.dist.name, point.dist.version) if point.dist is not None else ("", "")
    except Exception:  # Python 3.11 gives None for what is missing, later ones raise
        name, version = "", ""
    return name or "unknown", version or ""


def _canonical(name: str) -> str:
    return name.strip().lower().replace("_", "-").replace(".", "-")


@cache
def default() -> Registry:
    """The registry of this process, discovered on first use."""
    return Registry.discover()


def register(*what: object) -> None:
    """Add providers or a plugin to the registry of this process.

    >>> register(strategy("mine", select))  # doctest: +SKIP
    """
    default().register(*what)
