"""Where a model and data come from: what their names tell before anything heavy is imported."""

from pathlib import Path

from layerlens_core.errors import DataError, ModelError

#: Endings of data files that are read.
SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")


def check_source(source: str) -> None:
    """Raises `ModelError` where a local path cannot be a model's; a hub id is checked when it is loaded."""
    path = Path(source)
    if path.is_file():
        raise ModelError(f"the model {source} is a file; name its directory, the output of save_pretrained")
    if path.is_dir() and not (path / "config.json").exists():
        raise ModelError(f"the model directory {source} has no config.json; is it the output of save_pretrained?")
    if not path.exists() and source.startswith((".", "/", "~")):
        raise ModelError(f"the model directory {source} does not exist")


def check_data(source: str) -> None:
    """Raises `DataError` where a local path cannot be data; the name of a dataset is checked when it is loaded."""
    path = Path(source)
    known = path.suffix.lower() in SUFFIXES
    if path.is_file() and not known:
        raise DataError(f"{path} is not of a known kind; there are: {', '.join(SUFFIXES)}")
    if path.exists() and not path.is_file() and not path.is_dir():
        raise DataError(f"{source} is neither a file nor a directory; save the rows to a file first")
    if not path.exists() and (known or source.startswith((".", "/", "~"))):
        raise DataError(f"the data file {source} does not exist")
