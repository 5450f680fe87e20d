"""A run with a trace, planned by the library from a profile that is given."""

from itertools import count

import pytest
from auditing.differing.runs import PLUGINS, PROFILE, VERSIONS

import layerlens_core as ll
from layerlens_core import tracing
from layerlens_core.plugin.registry import Registry


@pytest.fixture
def run(tmp_path):
    """Makes a run, with a trace."""
    numbers = count()

    def make(profile=PROFILE, *, versions=VERSIONS, plugins=PLUGINS, registry=None, change=lambda plan: plan, **asked):
        folder = tmp_path / f"run{next(numbers)}"
        with tracing.to_file(folder, run_id="0"):
            tracing.run_started("plan", {}, versions)
            tracing.plugins_seen(Registry(plugins=list(plugins)))
            plan = change(ll.allocate(profile, registry=registry, **{"strategy": "budget", "margins": False, **asked}))
            plan.save(folder)
            profile.save(folder)
        return folder

    return make
