"""Broken plugins, really installed: each is reported with its distribution and cause, and the rest go on."""

import json

import pytest

pytestmark = pytest.mark.slow  # a plugin is installed as users do, and each command is a process of its own

#: Broken fixture plugin -> what the cause that is reported must say.
CAUSES = {
    "argument": ["layerlens_metrics(model)", "'model'"],
    "exits": ["SystemExit: 0"],
    "misspells": ["layerlens_strategys is no hook of LayerLens", "Did you mean 'layerlens_strategies'?"],
    "raises": ["RuntimeError: the licence server does not answer"],
    "unmarked": ["layerlens_strategies is not marked with @layerlens_core.hookimpl"],
    "wrongrecord": ["layerlens_metrics must give", "MetricProvider", "but gave StrategyProvider"],
}
WORKING = {
    "good": {("metric", "agreement"), ("strategy", "single")},
    "late": {("strategy", "late"), ("strategy", "quitter")},
    "rivalone": {("metric", "only_rivalone")},
    "rivaltwo": {("metric", "only_rivaltwo")},
}
#: Fixture plugins that leave a mark when they are imported.
MARKING = {"exits", "good", "raises"}

ASK = """
import json, sys
import layerlens_core as ll

answers = {}
for strategy in sys.argv[2:]:
    try:
        plan = ll.allocate(ll.Profile.load(sys.argv[1]), strategy=strategy, budget=ll.Budget(params="1000"))
        answers[strategy] = [decision.method for decision in plan.decisions]
    except ll.LayerLensError as error:
        answers[strategy] = f"{error.exit_code} {error}"
print(json.dumps(answers))
"""


def distribution(name):
    return f"layerlens-plugin-{name}"


@pytest.fixture
def marks(tmp_path):
    """Where the marking plugins say that they were imported."""
    folder = tmp_path / "marks"
    folder.mkdir()
    return folder


def imported(marks):
    return {path.name.removeprefix("layerlens_plugin_") for path in marks.iterdir()}


def test_every_fixture_plugin_is_found(listing):
    assert {distribution(name) for name in (*CAUSES, *WORKING)} <= set(listing.plugins)


@pytest.mark.parametrize("name", CAUSES)
def test_a_broken_plugin_is_reported_with_its_distribution_and_cause(listing, name):
    plugin = listing.plugins[distribution(name)]
    assert (plugin["name"], plugin["version"], plugin["status"]) == (name, "0.1.0", "failed")
    for part in CAUSES[name]:
        assert part in plugin["cause"]
    assert "\n" not in plugin["cause"]
    assert distribution(name) not in listing.providers.values()


@pytest.mark.parametrize("name", WORKING)
def test_the_rest_go_on(listing, name):
    plugin = listing.plugins[distribution(name)]
    assert (plugin["status"], plugin["cause"]) == ("loaded", "")
    given = {provider for provider, source in listing.providers.items() if source == distribution(name)}
    assert given == WORKING[name]


def test_the_built_in_providers_stay(listing):
    assert listing.plugins["layerlens-core"]["status"] == "loaded"
    assert listing.providers["strategy", "threshold"] == "layerlens-core"


def test_plugins_are_found_in_sorted_order_after_the_core(listing):
    found = [plugin["distribution"] for plugin in listing.document["plugins"]]
    assert found == ["layerlens-core", *sorted(set(found) - {"layerlens-core"})]


def test_two_providers_of_one_name_fail_both_by_name(listing, plugged):
    assert ("metric", "contested") not in listing.providers
    (conflict,) = listing.conflicts
    for part in ("metric 'contested'", distribution("rivalone"), distribution("rivaltwo")):
        assert part in conflict


def test_blocking_one_of_two_rivals_leaves_the_other(plugged):
    listing = plugged.listing(LAYERLENS_DISABLE_PLUGINS=distribution("rivaltwo"))
    assert listing.providers["metric", "contested"] == distribution("rivalone")
    assert listing.conflicts == []


def test_the_table_for_people_names_every_failure_and_succeeds(plugged):
    done = plugged.layerlens("plugins")
    assert done.returncode == 0, done.stderr
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    for name, parts in CAUSES.items():
        at = lines.index(f"{name} failed {distribution(name)} 0.1.0")
        assert all(part in lines[at + 1] for part in parts)
    assert any(line.startswith("metric 'contested' is provided by") for line in lines)


def test_what_a_plugin_prints_on_import_stays_out_of_the_results(plugged):
    done = plugged.layerlens("plugins", "--json")
    assert "printed on import" in done.stderr
    json.loads(done.stdout)


def test_the_marks_tell_what_was_imported(plugged, marks):
    plugged.listing(IMPORT_MARKS=str(marks))
    assert imported(marks) == MARKING


@pytest.mark.parametrize("spelling", ["{}", "layerlens-plugin-{}", "Layerlens_Plugin.{}", " {} "])
def test_blocked_by_the_environment_a_plugin_is_never_imported(plugged, marks, spelling):
    blocked = ",".join(spelling.format(name) for name in ("good", "raises"))
    listing = plugged.listing(LAYERLENS_DISABLE_PLUGINS=blocked, IMPORT_MARKS=str(marks))
    assert imported(marks) == MARKING - {"good", "raises"}
    for name in ("good", "raises"):
        assert listing.plugins[distribution(name)]["status"] == "blocked"
    assert ("strategy", "single") not in listing.providers


def test_blocked_on_the_command_line_a_plugin_is_never_imported(plugged, marks):
    listing = plugged.listing("--no-plugin", "exits", "--no-plugin", distribution("good"), IMPORT_MARKS=str(marks))
    assert imported(marks) == MARKING - {"good", "exits"}
    for name in ("good", "exits"):
        assert listing.plugins[distribution(name)]["status"] == "blocked"
    assert listing.plugins[distribution("raises")]["status"] == "failed"


def test_both_ways_of_blocking_add_up(plugged, marks):
    plugged.listing("--no-plugin", "exits", LAYERLENS_DISABLE_PLUGINS="good", IMPORT_MARKS=str(marks))
    assert imported(marks) == {"raises"}


def test_even_the_built_in_plugin_can_be_blocked(plugged):
    listing = plugged.listing("--no-plugin", "builtin")
    assert listing.plugins["layerlens-core"]["status"] == "blocked"
    assert listing.providers["strategy", "single"] == distribution("good")


def test_asking_for_what_a_broken_plugin_would_have_given_names_it(plugged, run):
    done = plugged.layerlens("allocate", run, "--strategy", "misspelled")
    assert done.returncode == 2
    assert "no strategy is named 'misspelled'" in done.stderr
    for name, parts in CAUSES.items():
        assert f"{name} ({distribution(name)}) failed: " in done.stderr
        assert all(part in done.stderr for part in parts)
    assert "Traceback" not in done.stderr
    assert not (run / "plan.json").exists()


def test_a_provider_that_fails_at_use_is_named_with_its_plugin_and_cause(plugged, run):
    done = plugged.layerlens("allocate", run, "--strategy", "late")
    assert done.returncode == 2
    for part in ("strategy 'late'", distribution("late"), "layerlens_dependency_that_is_not_installed"):
        assert part in done.stderr
    assert "Traceback" not in done.stderr
    assert not (run / "plan.json").exists()


def test_from_the_library_the_same_and_good_plugins_still_decide(plugged, run):
    done = plugged("-c", ASK, run, "misspelled", "late", "quitter", "single")
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    assert answers["misspelled"].startswith("2 no strategy is named 'misspelled'")
    assert f"misspells ({distribution('misspells')}) failed" in answers["misspelled"]
    assert answers["late"].startswith("2 strategy 'late' of plugin late (layerlens-plugin-late) failed to load")
    assert answers["quitter"].startswith("2 strategy 'quitter' of plugin late (layerlens-plugin-late) failed to load")
    assert "SystemExit: 0" in answers["quitter"]
    assert answers["single"] == ["none", "lora"]


def test_half_removed_metadata_does_not_hide_the_others(python, tmp_path):
    leftover = tmp_path / "site" / "layerlens_plugin_leftover-0.1.0.dist-info"
    leftover.mkdir(parents=True)
    (leftover / "entry_points.txt").write_text("[layerlens]\nleftover = layerlens_plugin_leftover\n")
    listing = python.listing(PYTHONPATH=str(leftover.parent))
    (plugin,) = [plugin for plugin in listing.document["plugins"] if plugin["name"] == "leftover"]
    assert (plugin["distribution"], plugin["status"]) == ("unknown", "failed")
    assert "layerlens_plugin_leftover" in plugin["cause"]
    assert listing.providers["strategy", "threshold"] == "layerlens-core"
