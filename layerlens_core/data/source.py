"""Where a model comes from: what its name tells before anything heavy is imported."""

from pathlib import Path

from layerlens_core.errors import ModelError


def check_source(source: str) -> None:
    """Raises `ModelError` where a local path cannot be a model's; a hub id is checked when it is loaded."""
    path = Path(source)
    if path.is_file():
        raise ModelError(f"the model {source} is a file; name its directory, the output of save_pretrained")
    if path.is_dir() and not (path / "config.json").exists():
        raise ModelError(f"the model directory {source} has no config.json; is it the output of save_pretrained?")
    if not path.exists() and source.startswith((".", "/", "~")):
        raise ModelError(f"the model directory {source} does not exist")
