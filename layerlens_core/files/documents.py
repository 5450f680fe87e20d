"""The documents of a run: JSON with a schema name and a version."""

import json
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from layerlens_core.errors import FileError
from layerlens_core.files.atomic import replacing

T = TypeVar("T")


def write(path: Path, value: object, *, schema: str, version: int) -> None:
    """Write an attrs value as JSON: sorted keys, so that equal values give equal bytes."""
    document = {"schema": schema, "version": version, **_converter().unstructure(value)}
    with replacing(path) as file:
        json.dump(document, file, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
        file.write("\n")


def read(path: Path, kind: type[T], *, schema: str, version: int) -> T:
    """Read what `write` wrote. Raises `FileError` where the file is missing, damaged or of another version."""
    try:
        document: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileError(f"{path} does not exist; is {path.parent} the directory of a run?") from None
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror}; is {path.parent} the directory of a run?") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise FileError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(document, dict) or document.get("schema") != schema:
        raise FileError(f"{path} is not a {schema} file")
    if document.get("version") != version:
        raise FileError(f"{path} is of version {document.get('version')}; this LayerLens reads version {version}")
    import cattrs  # here, so that adapting a model does not need it installed

    try:
        fields = {name: value for name, value in document.items() if name not in ("schema", "version")}
        structured: T = _converter().structure(fields, kind)
    except (cattrs.errors.BaseValidationError, KeyError, TypeError, ValueError) as error:
        details = "; ".join(cattrs.transform_error(error)[:3]) if isinstance(error, Exception) else str(error)
        raise FileError(f"{path} is damaged: {details}") from error
    return structured


@cache
def _converter() -> Any:
    from cattrs.preconf.json import make_converter

    return make_converter(forbid_extra_keys=True)
