"""What can be said of names of models and data before anything heavy is imported."""

import os

import pytest

from layerlens_core.data.source import check_data, check_source
from layerlens_core.errors import DataError, ModelError


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


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.JSON", "rows.csv", "rows.parquet"])
def test_data_files_directories_and_names_of_datasets_pass(tmp_path, name):
    (tmp_path / name).touch()
    check_data(str(tmp_path / name))
    check_data(str(tmp_path))
    check_data("somebody/dataset")


@pytest.mark.parametrize("source", ["./rows", "../rows.jsonl", "~/rows", "rows.csv", "folder/rows.parquet"])
def test_what_is_meant_as_a_file_must_be_there(tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=f"the data file {source} does not exist"):
        check_data(source)


def test_data_of_an_unknown_kind_and_pipes_are_refused(tmp_path):
    (tmp_path / "rows.txt").touch()
    with pytest.raises(DataError, match=r"is not of a known kind; there are: \.jsonl, \.json, \.csv, \.parquet"):
        check_data(str(tmp_path / "rows.txt"))
    os.mkfifo(tmp_path / "rows.jsonl")
    with pytest.raises(DataError, match="is neither a file nor a directory"):
        check_data(str(tmp_path / "rows.jsonl"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"base_model_name_or_path": "some/base"}', "name its base model: some/base"),
        ("{}", "name the base model that it was trained on"),
        ("nonsense", "name the base model that it was trained on"),
        ('{"base_model_name_or_path": 7}', "name the base model that it was trained on"),
    ],
)
def test_an_adapter_is_no_model_and_its_base_is_named(tmp_path, content, said):
    (tmp_path / "adapter_config.json").write_text(content)
    with pytest.raises(ModelError) as caught:
        check_source(str(tmp_path))
    assert str(caught.value) == f"{tmp_path} is an adapter of PEFT, not a model; {said}"


def test_a_model_directory_with_a_pipe_is_refused_instead_of_waited_for(tmp_path):
    (tmp_path / "config.json").touch()
    os.mkfifo(tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match="is neither a file nor a directory, so"):
        check_source(str(tmp_path))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ModelError, match="is neither a file nor a directory; name the output"):
        check_source(str(tmp_path / "pipe"))


@pytest.mark.parametrize("name", ["", "a\0b", "x" * 5000])
def test_what_can_be_no_name_is_refused(name):
    with pytest.raises(ModelError, match="is no name of a model"):
        check_source(name)
    with pytest.raises(DataError, match="is no name of data"):
        check_data(name)


@pytest.mark.parametrize("name", ["rows.parquet.gz", "rows.gz", "rows.jsonl.zst", "rows.zip"])
def test_packed_data_are_unpacked_first(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(DataError, match="is packed in a way that is not read; unpack it first"):
        check_data(str(tmp_path / name))
