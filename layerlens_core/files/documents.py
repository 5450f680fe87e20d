"""The documents of a run: JSON with a schema name and a version."""

import json
import math
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from layerlens_core.errors import FileError, LayerLensError, brief
from layerlens_core.files.atomic import replacing, writing
from layerlens_core.files.json_text import parse_strict, writable
from layerlens_core.files.reading import read_file

T = TypeVar("T")
#: Integers are smaller than this, so that sums of them are exact numbers everywhere.
_LARGEST = 1 << 63


def write(path: Path, value: object, *, schema: str, version: int) -> None:
    """Write an attrs value as JSON: sorted keys, so that equal values give equal bytes."""
    document = {"schema": schema, "version": version, **_converter().unstructure(value)}
    text = json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    with replacing(path) as file:
        file.write(f"{writable(text)}\n")


def write_into(run: str | Path, name: str, value: object, *, schema: str, version: int) -> Path:
    """As `write`, into a run's directory, and where it lies. Raises `FileError`, where another process writes too."""
    path = Path(run) / name
    with writing(path.parent):
        write(path, value, schema=schema, version=version)
    return path


def read(path: Path, kind: type[T], *, schema: str, version: int) -> T:
    """Read what `write` wrote. Raises `FileError` where the file is missing, damaged or of another version."""
    content = read_file(path, advice=f"is {path.parent} the directory of a run?")
    try:
        document: Any = parse_strict(content.decode("utf-8"))
    except ValueError as error:
        raise FileError(f"{path} is not valid JSON: {brief(error)}") from None
    if not isinstance(document, dict) or document.get("schema") != schema:
        raise FileError(f"{path} is not a {schema} file")
    found = document.get("version")
    if found != version:
        raise FileError(f"{path} is of version {brief(found)}; this LayerLens reads version {version}")
    import cattrs  # here, so that adapting a model does not need it installed

    try:
        fields = {name: value for name, value in document.items() if name not in ("schema", "version")}
        structured: T = _converter().structure(fields, kind)
    except (cattrs.errors.BaseValidationError, KeyError, TypeError, ValueError, ArithmeticError) as error:
        details = "; ".join(cattrs.transform_error(error, format_exception=_told)[:3])
        raise FileError(f"{path} is damaged: {brief(details)}") from error
    except RecursionError:
        raise FileError(f"{path} is damaged: it is nested too deeply") from None
    return structured


@cache
def _converter() -> Any:
    from cattrs.preconf.json import make_converter

    converter = make_converter(forbid_extra_keys=True)
    # cattrs would call these types, and so read 6.9 as 6, true as 1 and 5 as "5". Its messages name type and place.
    converter.register_structure_hook(int, lambda value, _: _exactly(int, value))
    converter.register_structure_hook(str, lambda value, _: _exactly(str, value))
    converter.register_structure_hook(bool, lambda value, _: _exactly(bool, value))
    converter.register_structure_hook(float, lambda value, _: _finite(value))
    return converter


def _told(error: BaseException, kind: type | None) -> str:
    """For cattrs: an error in words; those of our records say all."""
    if isinstance(error, LayerLensError):
        return str(error)
    from cattrs.v import format_exception

    return format_exception(error, kind)


def _exactly(kind: type, value: object) -> object:
    if type(value) is not kind:
        raise TypeError(kind)
    if kind is int and not -_LARGEST < value < _LARGEST:  # type: ignore[operator]
        raise ValueError(value)
    return value


def _finite(value: object) -> float:
    if type(value) not in (int, float):
        raise TypeError(float)
    number = float(value)  # type: ignore[arg-type]
    if not math.isfinite(number):
        raise ValueError(number)
    return number
