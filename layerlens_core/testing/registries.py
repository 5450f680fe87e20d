"""A registry of a test's own: the built-in providers, what the test adds, and nothing that happens to be installed."""

from collections.abc import Iterator
from contextlib import contextmanager

from layerlens_core.plugin.providers import Provider
from layerlens_core.plugin.registry import Registry, default


@contextmanager
def isolated_registry(*providers: Provider) -> Iterator[Registry]:
    """Inside, the registry of this process holds these providers beside the built-in ones, and no installed plugin's.

    A built-in provider of the same kind and name makes room for the given one. Afterwards all is as before, whatever
    was registered inside.

    providers: of any kinds.

    Raises `PluginError` for two providers of one kind and name.
    """
    registry = default()
    with registry.alone(*providers):
        yield registry
