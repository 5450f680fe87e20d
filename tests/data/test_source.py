"""What can be said of a model's name before anything heavy is imported."""

import pytest

from layerlens_core.data.source import check_source
from layerlens_core.errors import ModelError


def test_a_saved_model_and_a_name_on_the_hub_pass(tmp_path):
    (tmp_path / "config.json").touch()
    check_source(str(tmp_path))
    check_source("somebody/model")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("file", "is a file; name its directory, the output of save_pretrained"),
        ("empty", "has no config.json; is it the output of save_pretrained?"),
        ("nowhere", "does not exist"),
    ],
)
def test_what_is_local_and_no_model_is_refused(tmp_path, name, said):
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError) as caught:
        check_source(str(tmp_path / name))
    assert f"{tmp_path / name} {said}" in str(caught.value)


@pytest.mark.parametrize("name", ["./model", "../model", "~/model"])
def test_a_name_that_begins_like_a_path_is_not_looked_for_on_the_hub(tmp_path, monkeypatch, name):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(ModelError, match="does not exist"):
        check_source(name)
