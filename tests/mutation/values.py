"""Changes to one value of a JSON document: its type, its range, its place, its name."""

import copy
import json
import math
import random
from collections.abc import Callable, Iterator
from typing import Any

#: Stands for a text that `json` would not write, and is put in by `spelled`.
_RAW = "\x00raw:"

#: Values of every type, at the ends of their ranges and beyond.
HOSTILE: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3, 7, 255, 2**31, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), 10**30,
    0.0, -0.0, 0.5, 6.9, -1.5, 1e-300, 5e-324, 1e16, 1e308, -1e308, 1.7976931348623157e308,
    f"{_RAW}NaN", f"{_RAW}Infinity", f"{_RAW}-Infinity", f"{_RAW}1e400", f"{_RAW}{'9' * 400}", f"{_RAW}{'9' * 5000}",
    "", " ", "0", "1", "NaN", "none", "lora", "null", "a" * 5000, "\x00", "\n", "\u2028", "\x1b[2J\x1b]0;x\x07",
    "[red]name[/red]", "[/]", "[", "\ud83d", "../../etc/passwd", "%s%n", "é" * 50, "-", "L0.w", "float99", "int4",
    [], {}, [[]], {"": None}, [None], [0], {"a": 1}, [1, "a", None], f"{_RAW}{'[' * 300}{']' * 300}",
    f"{_RAW}{'[' * 100_000}", _RAW + '{"a":' * 2000 + "1" + "}" * 2000,
)  # fmt: skip

Path = tuple[Any, ...]


def changed(document: Any, pick: random.Random) -> str:
    """The document as text, with one to three of its values changed."""
    document = copy.deepcopy(document)
    doubled: list[tuple[Path, str]] = []
    for _ in range(pick.choice((1, 1, 1, 2, 3))):
        places = list(_places(document))
        if not places:
            break
        _CHANGES[pick.randrange(len(_CHANGES))](document, pick.choice(places), pick, doubled)
    return spelled(document, doubled, indent=pick.choice((None, 2)), plain=pick.random() < 0.5)


def spelled(document: Any, doubled: list[tuple[Path, str]], *, indent: int | None, plain: bool) -> str:
    """JSON, with what only a text can say: names that stand twice, numbers and nesting beyond what Python writes."""
    text = json.dumps(document, indent=indent, ensure_ascii=plain)
    for _path, name in doubled:
        key = f"{json.dumps(name, ensure_ascii=plain)}: "
        text = text.replace(key, f"{key}0, {key}", 1)
    for value in HOSTILE:
        if isinstance(value, str) and value.startswith(_RAW) and "raw:" in text:
            text = text.replace(json.dumps(value, ensure_ascii=plain), value.removeprefix(_RAW))
    return text


def _places(value: Any, path: Path = ()) -> Iterator[Path]:
    """The place of every value inside, by keys and indices."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in inside:
        yield (*path, key)
        yield from _places(child, (*path, key))


def _at(document: Any, path: Path) -> Any:
    for key in path:
        document = document[key]
    return document


def _replace(document: Any, path: Path, pick: random.Random, _doubled: object) -> None:
    _at(document, path[:-1])[path[-1]] = copy.deepcopy(pick.choice(HOSTILE))


def _nudge(document: Any, path: Path, pick: random.Random, _doubled: object) -> None:
    """A value of its own type, near or far."""
    parent, key = _at(document, path[:-1]), path[-1]
    value = parent[key]
    if isinstance(value, bool):
        parent[key] = not value
    elif isinstance(value, int | float):
        numbers = (
            value + 1, value - 1, -value, value * 2, value * 1000, value / 3,
            int(value) if abs(value) < math.inf else 0, float(value), str(value), value * (1 + 1e-9),
        )  # fmt: skip
        parent[key] = pick.choice(numbers)
    elif isinstance(value, str):
        at = pick.randint(0, len(value))
        parent[key] = pick.choice(
            (value[:at] + pick.choice("aZ0.\x1b\u2028[é\ud800") + value[at:], value[:at], value.upper(), value + value)
        )
    elif isinstance(value, list):
        pick.shuffle(value)
    elif isinstance(value, dict):
        parent[key] = dict(pick.sample(list(value.items()), len(value)))


def _delete(document: Any, path: Path, _pick: random.Random, _doubled: object) -> None:
    del _at(document, path[:-1])[path[-1]]


def _double(document: Any, path: Path, _pick: random.Random, doubled: list[tuple[Path, str]]) -> None:
    """The same once more: an element of a list, or a name of an object."""
    parent, key = _at(document, path[:-1]), path[-1]
    if isinstance(parent, list):
        parent.insert(key, copy.deepcopy(parent[key]))
    else:
        doubled.append((path, key))


def _swap(document: Any, path: Path, pick: random.Random, _doubled: object) -> None:
    """Two values of one object or list change places."""
    parent, key = _at(document, path[:-1]), path[-1]
    keys = list(parent) if isinstance(parent, dict) else list(range(len(parent)))
    other = pick.choice(keys)
    parent[key], parent[other] = parent[other], parent[key]


def _graft(document: Any, path: Path, pick: random.Random, _doubled: object) -> None:
    """A value of elsewhere in the document."""
    other = copy.deepcopy(_at(document, pick.choice(list(_places(document)))))
    _at(document, path[:-1])[path[-1]] = other


def _rename(document: Any, path: Path, pick: random.Random, _doubled: object) -> None:
    parent, key = _at(document, path[:-1]), path[-1]
    if isinstance(parent, dict):
        parent[pick.choice(("", "surprise", f"{key}x", str(key)[:-1], "\x1b[31m", "[bold]"))] = parent.pop(key)


def _add(document: Any, path: Path, pick: random.Random, _doubled: object) -> None:
    parent = _at(document, path[:-1])
    value = copy.deepcopy(pick.choice(HOSTILE))
    if isinstance(parent, dict):
        parent[pick.choice(("surprise", "schema", "version", "name", "event"))] = value
    else:
        parent.append(value)


Change = Callable[[Any, Path, random.Random, list[tuple[Path, str]]], None]
_CHANGES: tuple[Change, ...] = (
    _replace, _replace, _replace, _nudge, _nudge, _nudge, _delete, _double, _swap, _graft, _rename, _add,
)  # fmt: skip
