"""The documents of a run: JSON with a schema name and a version.

Files name each other by digests: SHA-256 of a file's bytes, in hexadecimal, as ``sha256sum`` prints it. As equal values
give equal bytes, a record has the digest of its file before it is written (`digest`).
"""

import hashlib
import json
import math
import re
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from layerlens_core.errors import FileError, LayerLensError, VersionError, brief
from layerlens_core.files.atomic import replacing, writing
from layerlens_core.files.json_text import parse_strict, writable
from layerlens_core.files.reading import read_file

T = TypeVar("T")
#: Integers are smaller than this, so that sums of them are exact numbers everywhere.
_LARGEST = 1 << 63
#: The key of a document's digest of itself.
_SEAL = "sha256"


def write(path: Path, value: object, *, schema: str, version: int, sealed: bool = False) -> None:
    """Write an attrs value as JSON: sorted keys, so that equal values give equal bytes.

    path: of the file.
    value: the record.
    schema: what it is called.
    version: of the schema.
    sealed: the document holds, as ``sha256``, the digest of all of its other bytes; for files that no other one names.
    """
    text = _text(value, schema, version, **({_SEAL: ""} if sealed else {}))
    if sealed:
        text = text.replace(_sealed(""), _sealed(_digest(text.encode())), 1)
    with replacing(path) as file:
        file.write(text)


def plain(value: object) -> Any:
    """A record as what JSON has: what `write` writes, without schema and version."""
    return _converter().unstructure(value)


def parts(value: object) -> dict[str, str]:
    """By field of a record, the first 16 digits of the SHA-256 of what its file says there: which of them changed."""
    return _parts(plain(value))


def parts_in(path: Path) -> dict[str, str]:
    """As `parts`, of what a file says, which can be read."""
    document = parse_strict(read_file(path, advice="").decode("utf-8"))
    return _parts({name: part for name, part in document.items() if name not in ("schema", "version")})


def digest(value: object, *, schema: str, version: int) -> str:
    """SHA-256, in hexadecimal, of the file that `write` makes of a value without a seal."""
    return _digest(_text(value, schema, version).encode())


def write_into(run: str | Path, name: str, value: object, *, schema: str, version: int, sealed: bool = False) -> Path:
    """As `write`, into a run's directory, and where it lies. Raises `FileError`, where another process writes too."""
    path = Path(run) / name
    with writing(path.parent):
        write(path, value, schema=schema, version=version, sealed=sealed)
    return path


def read(
    path: Path,
    kind: type[T],
    *,
    schema: str,
    version: int,
    sealed: bool = False,
    broken_too: bool = False,
    again: str = "",
) -> T:
    """Read what `write` wrote.

    path: of the file.
    kind: the record's type.
    schema: as it was written.
    version: the only one that is read.
    sealed: as it was written.
    broken_too: read a sealed document whose seal is broken; `is_sealed` tells.
    again: how to make the file anew, for files of an earlier version.

    Raises `FileError` where the file is missing, damaged or of another version.
    """
    found, _ = read_named(path, kind, schema=schema, version=version, sealed=sealed, again=again)
    if sealed and not broken_too and not is_sealed(path):
        raise FileError(f"{path} was changed or damaged: its {_SEAL} is not that of its content")
    return found


def read_named(
    path: Path, kind: type[T], *, schema: str, version: int, sealed: bool = False, again: str = ""
) -> tuple[T, str]:
    """As `read`, and the SHA-256 digest of the file, in hexadecimal, by which other files name it."""
    content = read_file(path, advice=f"is {path.parent} the directory of a run?")
    try:
        document: Any = parse_strict(content.decode("utf-8"))
    except ValueError as error:
        raise FileError(f"{path} is not valid JSON: {brief(error)}") from None
    if not isinstance(document, dict) or document.get("schema") != schema:
        raise FileError(f"{path} is not a {schema} file")
    found = document.get("version")
    if found != version:
        newer = isinstance(found, int) and found > version
        advice = "a newer one wrote it, so update this one" if newer else again
        raise VersionError(
            f"{path} is of version {brief(found)}; this LayerLens reads version {version}{advice and f'; {advice}'}"
        )
    header = ("schema", "version", _SEAL) if sealed else ("schema", "version")
    import cattrs  # here, so that adapting a model does not need it installed

    try:
        fields = {name: value for name, value in document.items() if name not in header}
        structured: T = _converter().structure(fields, kind)
    except (cattrs.errors.BaseValidationError, KeyError, TypeError, ValueError, ArithmeticError) as error:
        details = "; ".join(cattrs.transform_error(error, format_exception=_told)[:3])
        raise FileError(f"{path} is damaged: {brief(details)}") from error
    except RecursionError:
        raise FileError(f"{path} is damaged: it is nested too deeply") from None
    if lacking := _lacking(plain(structured), fields):
        raise FileError(f"{path} is damaged: it lacks {brief(lacking)}")
    return structured, _digest(content)


def remember_digest(record: object, found: str) -> None:
    """Let a record that was read have the digest of its file, which may be spelled otherwise than we would."""
    object.__setattr__(record, "digest", found)  # as a cached property of a frozen record is set


def _lacking(written: Any, found: Any, place: str = "") -> str | None:
    """The place of a field that is written always, and that a document lacks, as a default took its place."""
    if isinstance(written, dict):
        for name, value in written.items():
            where = f"{place}.{name}".removeprefix(".")
            if name not in found:
                return where
            if (lacking := _lacking(value, found[name], where)) is not None:
                return lacking
    elif isinstance(written, list | tuple):
        for at, value in enumerate(written):
            if (lacking := _lacking(value, found[at], f"{place}[{at}]")) is not None:
                return lacking
    return None


def _parts(document: dict[str, Any]) -> dict[str, str]:
    return {
        name: _digest(json.dumps(part, sort_keys=True, allow_nan=False).encode())[:16]
        for name, part in document.items()
    }


def _text(value: object, schema: str, version: int, **header: object) -> str:
    document = {"schema": schema, "version": version, **header, **plain(value)}
    text = json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return f"{writable(text)}\n"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _sealed(found: str) -> str:
    """The line of a seal, as it is written."""
    return f'\n  "{_SEAL}": "{found}"'


def is_sealed(path: Path) -> bool:
    """Whether a document that was written with a seal is as it was written, in all of its bytes."""
    content = read_file(path, advice="")
    found = re.search(re.escape(_sealed("")[:-1]).encode() + rb"([0-9a-f]{64})\"", content)
    if found is None:
        return False
    before, after = content[: found.start(1)], content[found.end(1) :]
    return _digest(before + after) == found[1].decode()


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
