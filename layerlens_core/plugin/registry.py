"""Look up every name that a plugin provides; for names of plugins that did not load, say why."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any, Literal, cast, overload

from attrs import define, field, frozen

from layerlens_core.errors import PluginError, nearest, shown
from layerlens_core.plugin.discovery import (
    DISABLE_VARIABLE,
    OURS,
    Plugin,
    canonical,
    describe,
    discover,
    providers_of,
)
from layerlens_core.plugin.guard import Origin, guarded
from layerlens_core.plugin.protocols import ActiveScore, Combine, Export, Method, Score, Select
from layerlens_core.plugin.providers import (
    KINDS,
    AggregatorProvider,
    ExporterProvider,
    Kind,
    MethodProvider,
    MetricProvider,
    Provider,
    StrategyProvider,
    kind_of,
)
from layerlens_core.values.scores import describe_missing_reduction

IN_PROCESS = "in process"

#: Providers that come in a distribution of their own, so that asking for one says what to install.
OFFICIAL_DISTRIBUTIONS = {("strategy", "cost-benefit"): "layerlens-plugin-costbenefit"}


@frozen
class _Entry:
    provider: Provider
    plugin: Plugin


@define
class Registry:
    """Providers by kind and name, and the plugins that they came from.

    A plugin that fails never hides the others: it is kept with its cause in ``plugins``.

    plugins: all that were found, loaded or not.
    """

    plugins: list[Plugin] = field(factory=list)
    _entries: dict[str, dict[str, _Entry]] = field(factory=lambda: {kind: {} for kind in KINDS})
    _ambiguous: dict[tuple[str, str], list[Plugin]] = field(factory=dict)

    @classmethod
    def discover(cls, blocked: Iterable[str] = ()) -> "Registry":
        """A registry of all installed plugins (`layerlens_core.plugin.discovery.discover`).

        blocked: entry-point or distribution names that are not even imported.
        """
        registry = cls()
        for plugin, providers in discover(blocked):
            registry._add(plugin, providers)
        return registry

    def register(self, *what: object, replace: bool = False) -> None:
        """Add providers, or a plugin object with hooks, in this process.

        what: records of providers, or plugins.
        replace: take the place of what was registered in this process under the same names, as a cell of a notebook
            that runs again does; what an installed plugin provides stays.

        Raises `PluginError` where a plugin breaks the contract or a name is already taken.
        """
        for item in what:
            if isinstance(item, tuple(KINDS.values())):
                name, providers = cast(Any, item).name, [cast(Provider, item)]
            else:
                name = getattr(item, "__name__", type(item).__name__)
                try:
                    providers = providers_of(item)
                except Exception as error:
                    raise PluginError(f"plugin {name!r} cannot be registered: {describe(error)}") from error
            if replace:
                self._drop([(kind_of(provider), provider.name) for provider in providers])
            for provider in providers:
                kind = kind_of(provider)
                taken = self._entries[kind].get(provider.name)
                givers = [taken.plugin] if taken is not None else self._ambiguous.get((kind, provider.name))
                if givers:
                    raise PluginError(
                        f"{kind} {provider.name!r} is already provided by {' and '.join(map(str, givers))}; "
                        f"choose another name{_or_replace(givers)}"
                    )
            self._add(Plugin(name=name, distribution=IN_PROCESS), providers)

    def unregister(self, *what: object) -> None:
        """Take away what `register` added in this process.

        what: the records or plugins that were registered, or others of the same kinds and names.

        Raises `PluginError` for what was not registered in this process.
        """
        for item in what:
            providers = [cast(Provider, item)] if isinstance(item, tuple(KINDS.values())) else providers_of(item)
            names = [(kind_of(provider), provider.name) for provider in providers]
            for kind, name in names:
                entry = self._entries[kind].get(name)
                if entry is None or entry.plugin.distribution != IN_PROCESS:
                    whose = "nothing has this name" if entry is None else f"it is of {entry.plugin}"
                    raise PluginError(f"{kind} {name!r} was not registered in this process: {whose}")
            self._drop(names)

    def _drop(self, names: Iterable[tuple[Kind, str]]) -> None:
        """Forget what was registered in this process under these kinds and names."""
        for kind, name in names:
            entry = self._entries[kind].get(name)
            if entry is not None and entry.plugin.distribution == IN_PROCESS:
                del self._entries[kind][name]
        used = {id(entry.plugin) for entries in self._entries.values() for entry in entries.values()}
        self.plugins = [p for p in self.plugins if p.distribution != IN_PROCESS or id(p) in used]

    def names(self, kind: Kind) -> list[str]:
        """The names of all usable providers of a kind, sorted."""
        return sorted(self._entries[kind])

    @overload
    def providers(self, kind: Literal["metric"]) -> Mapping[str, MetricProvider]: ...
    @overload
    def providers(self, kind: Literal["method"]) -> Mapping[str, MethodProvider]: ...
    @overload
    def providers(self, kind: Kind) -> Mapping[str, Provider]: ...
    def providers(self, kind: Kind) -> Mapping[str, Any]:
        """Usable providers of a kind by name, sorted by name."""
        return {name: self._entries[kind][name].provider for name in self.names(kind)}

    def plugin_of(self, kind: Kind, name: str) -> Plugin:
        """The plugin that a provider came from."""
        if name not in self._entries[kind]:
            self.get(kind, name)
        return self._entries[kind][name].plugin

    def origin(self, kind: Kind, name: str) -> Origin:
        """A provider and its plugin, as errors name them."""
        return Origin(kind, name, self.plugin_of(kind, name))

    @overload
    def get(self, kind: Literal["metric"], name: str) -> MetricProvider: ...
    @overload
    def get(self, kind: Literal["aggregator"], name: str) -> AggregatorProvider: ...
    @overload
    def get(self, kind: Literal["strategy"], name: str) -> StrategyProvider: ...
    @overload
    def get(self, kind: Literal["method"], name: str) -> MethodProvider: ...
    @overload
    def get(self, kind: Literal["exporter"], name: str) -> ExporterProvider: ...
    @overload
    def get(self, kind: Kind, name: str) -> Provider: ...
    def get(self, kind: Kind, name: str) -> Provider:
        """The provider of that kind and name.

        Raises `PluginError` that names the nearest name, the distribution to install where one is known, and the
        plugins that are not loaded and so may hold it; and for a metric that scores modules, and does not say how they
        make a layer.
        """
        entry = self._entries[kind].get(name)
        if entry is not None:
            provider = entry.provider
            if isinstance(provider, MetricProvider) and not provider.active and provider.reduction is None:
                raise PluginError(f"{self.origin(kind, name)} has no reduction: {describe_missing_reduction()}")
            return provider
        if (kind, name) in self._ambiguous:
            rivals = " and ".join(map(str, self._ambiguous[kind, name]))
            raise PluginError(
                f"{kind} {name!r} is provided twice, by {rivals}, so neither is used; "
                f"uninstall one or block it ({DISABLE_VARIABLE}=NAME)"
            )
        message = f"no {kind} is named '{shown(name, 100)}'; there are: {', '.join(self.names(kind)) or 'none'}."
        missing = [plugin for plugin in self.plugins if plugin.status != "loaded"]
        official = OFFICIAL_DISTRIBUTIONS.get((kind, name))
        if official is not None and official not in {canonical(plugin.distribution) for plugin in missing}:
            message += f" It comes with {official}: pip install {official}"
        elif not missing or official is None:
            message += nearest(name, self.names(kind))
        if missing:
            named = "; ".join(f"{plugin} {plugin.status}: {plugin.cause}" for plugin in missing)
            message += f"\nIt may belong to a plugin that is not loaded: {named}"
        raise PluginError(message)

    @overload
    def load(self, kind: Literal["metric"], name: str) -> Score | ActiveScore: ...
    @overload
    def load(self, kind: Literal["aggregator"], name: str) -> Combine: ...
    @overload
    def load(self, kind: Literal["strategy"], name: str) -> Select: ...
    @overload
    def load(self, kind: Literal["method"], name: str) -> Method: ...
    @overload
    def load(self, kind: Literal["exporter"], name: str) -> Export: ...
    def load(self, kind: Kind, name: str) -> Any:
        """The working object behind a provider, guarded (`layerlens_core.plugin.guard`).

        Raises `PluginError` where its own loading fails.
        """
        provider = self.get(kind, name)
        try:
            loaded = provider.load()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # as on import: a plugin may exit
            raise PluginError(f"{self.origin(kind, name)} failed to load: {describe(error)}") from error
        return guarded(self.origin(kind, name), loaded)

    @contextmanager
    def alone(self, *providers: Provider) -> Iterator[None]:
        """Inside, these providers are there, and besides them only what comes along with LayerLens, with other names.

        Afterwards all is as before, whatever was registered inside.

        providers: of any kinds.
        """
        plugins, entries, ambiguous = self.plugins, self._entries, self._ambiguous
        given = {(kind_of(provider), provider.name) for provider in providers}
        self.plugins, self._ambiguous = [plugin for plugin in plugins if plugin.distribution == OURS], {}
        self._entries = {
            kind: {
                name: entry
                for name, entry in of_kind.items()
                if entry.plugin.distribution == OURS and (kind, name) not in given
            }
            for kind, of_kind in entries.items()
        }
        try:
            self.register(*providers)
            yield
        finally:
            self.plugins, self._entries, self._ambiguous = plugins, entries, ambiguous

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

    @property
    def conflicts(self) -> list[str]:
        """Names that two plugins provide, each in a line."""
        return [
            f"{kind} {name!r} is provided by {' and '.join(map(str, rivals))}; neither is used"
            for (kind, name), rivals in sorted(self._ambiguous.items())
        ]


@cache
def default() -> Registry:
    """The registry of this process, discovered on first use."""
    return Registry.discover()


def register(*what: object, replace: bool = False) -> None:
    """Add providers or a plugin to the registry of this process.

    >>> register(strategy("mine", select), replace=True)  # doctest: +SKIP

    what: records of providers, or plugins.
    replace: take the place of what was registered here under the same names, so that a cell of a notebook runs twice.

    Raises `PluginError` where a plugin breaks the contract or a name is already taken.
    """
    default().register(*what, replace=replace)


def unregister(*what: object) -> None:
    """Take away what `register` added in this process. Raises `PluginError` for what it did not add.

    what: the records or plugins that were registered, or others of the same kinds and names.
    """
    default().unregister(*what)


def _or_replace(givers: Iterable[Plugin]) -> str:
    """What else can be done about a name that is taken."""
    here = all(plugin.distribution == IN_PROCESS for plugin in givers)
    return ", or take its place with replace=True" if here else ""
