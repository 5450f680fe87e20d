"""Broken plugins, really installed: each is reported with its distribution and cause, and the rest go on."""

import pytest

BUILTIN = {"builtin": "layerlens-core"}

#: Broken fixture plugin -> what its reported cause must say.
CAUSES = {
    "raises": ["RuntimeError: the licence server does not answer"],
    "exits": ["SystemExit: 0"],
    "misspells": ["layerlens_strategys is no hook of LayerLens", "Did you mean 'layerlens_strategies'?"],
    "argument": ["layerlens_metrics(model)", "'model'"],
    "unmarked": ["layerlens_strategies is not marked with @layerlens_core.hookimpl"],
    "wrongrecord": ["layerlens_metrics must give", "MetricProvider", "but gave StrategyProvider"],
}
WORKING = ["good", "late", "rivalone", "rivaltwo"]


def distribution(name):
    return f"layerlens-plugin-{name}"


@pytest.fixture(scope="module")
def listing(plugin_folder, tmp_path_factory):
    """What is said with all fixture plugins installed."""
    from layerlens_fixture import Python  # pragma: no cover

    return Python(tmp_path_factory.mktemp("listing"), plugin_folder).listing()
