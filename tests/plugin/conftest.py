"""A registry for each test, and plugins that seem to be installed."""

import pytest

import layerlens_builtin
from layerlens_core.plugin import discovery, registry


@pytest.fixture(autouse=True)
def own_registry(monkeypatch):
    """A registry of this test's own, found anew."""
    monkeypatch.delenv(discovery.DISABLE_VARIABLE, raising=False)
    registry.default.cache_clear()
    yield
    registry.default.cache_clear()


@pytest.fixture
def installed(monkeypatch):
    """Makes exactly these modules or objects the plugins that are installed, beside the built-in one."""

    class Point:
        """What the registry uses of an entry point."""

        def __init__(self, name, plugin):
            self.name, self.plugin = name, plugin
            distribution = "layerlens-core" if plugin is layerlens_builtin else f"layerlens-plugin-{name}"
            self.dist = type("Distribution", (), {"name": distribution, "version": "1.0"})
            self.imported = False

        def load(self):
            self.imported = True
            if isinstance(self.plugin, BaseException):
                raise self.plugin
            return self.plugin

    def install(**plugins):
        points = {name: Point(name, plugin) for name, plugin in plugins.items()}
        builtin = Point("builtin", layerlens_builtin)
        monkeypatch.setattr(discovery, "entry_points", lambda group: [*points.values(), builtin])
        return points

    return install
