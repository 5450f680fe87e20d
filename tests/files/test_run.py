"""Which files a run holds: their names are a promise to users, and the partial ones are found."""

from layerlens_core.files import run


def test_the_files_of_a_complete_run_are_these():
    assert run.FILES == (
        "profile.json",
        "directions.safetensors",
        "subspace.safetensors",
        "plan.json",
        "trace.jsonl",
        "recipe.json",
        "gains.json",
    )
    assert run.CHECKPOINT not in run.FILES


def test_checkpoints_are_found_by_process_and_nothing_else_is(tmp_path):
    assert run.checkpoints(tmp_path / "nowhere") == []
    for name in (*run.FILES, "profile.partial.1", "profile.partial.0", "other.partial", ".profile.partial.2"):
        (tmp_path / name).touch()
    assert [path.name for path in run.checkpoints(tmp_path)] == ["profile.partial.0", "profile.partial.1"]
    (tmp_path / run.CHECKPOINT).touch()
    assert run.checkpoints(str(tmp_path))[0].name == "profile.partial"
