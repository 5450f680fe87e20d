"""The support table, as docs/families.md holds it: under one version of transformers, and what later ones change."""

import re
from collections.abc import Callable, Iterable

from families.support import SIZES

_HEADER = """# Model families

What can be done with each family of models. The table is made by `tests/families/test_matrix.py`, which applies every
method, and plans that mix them, to tiny random models of each family, and checks:

- at first the model computes what it did, to the last bit, and disabling or unloading gives that back;
- trainable parameters are the planned number, each tensor of them receives a gradient (of experts in a list, as in
  Switch, those that a token reaches), and they change the output;
- each expert of stacked experts gets its own A and B: r·E·(in + out) parameters;
- a saved adapter loads to the same output, to the last bit; LoRA alone, experts included, is saved as plain PEFT's
  `LORA` unless the remark says otherwise.

`yes`: in every layer, or for experts in every layer that has them. `part`: in some layers, the remark says why. `no`:
refused, for the reason in the remark. `–`: no stacked experts.
What is not in the table is not refused: `layerlens plan` inspects any model.

"""

_COLUMNS = "| family | kind | class | lora | adapter | prefix | lora-experts | remark |"
_RULE = "|---|---|---|---|---|---|---|---|"
_EXTENTS = {"yes": "in every layer", "part": "in some layers", "no": "refused", "–": "no such place"}
#: Rows by their names, as lines.
Lines = dict[str, str]


def markdown(found: Lines, families: int, version: str, written: str = "") -> str:
    """The document, with what was found under one version of transformers put into what was written before.

    The first table is of the least version that was written. Of a greater one the document has the rows that differ
    from those before it, which hold until a still greater one changes them again.

    found: the rows of all models. families: how many they are of. version: of transformers, such as ``5.23``.
    written: the document so far.
    """
    tables = _tables(written)
    before = _until(tables, lambda earlier: _order(earlier) < _order(version))
    tables[version] = {name: line for name, line in found.items() if before.get(name) != line}
    first, *later = sorted(tables, key=_order)
    lines = [
        f"{len(tables[first])} models of {families} families, with transformers {first}:",
        *("", "| | lora | adapter | prefix | lora-experts |", "|---|---|---|---|---|", *_counts(tables[first])),
        *("", _COLUMNS, _RULE, *tables[first].values()),
    ]
    if changes := [f"| {since} {line}" for since in later for line in tables[since].values()]:
        lines += ["", "Later versions of transformers change these:", ""]
        lines += [f"| since {_COLUMNS}", f"|---{_RULE}", *changes]
    return _HEADER + "\n".join(lines) + "\n"


def lines_under(version: str, written: str) -> Lines:
    """The rows that a document has for a version of transformers."""
    return _until(_tables(written), lambda earlier: _order(earlier) <= _order(version))


def _until(tables: dict[str, Lines], holds: Callable[[str], bool]) -> Lines:
    """The rows of some versions, of each model the one of the greatest."""
    rows: Lines = {}
    for version in filter(holds, sorted(tables, key=_order)):
        rows |= tables[version]
    return rows


def _counts(table: Lines) -> Iterable[str]:
    """How many models support each method, by extent."""
    columns = list(zip(*(line.split(" | ")[3 : 3 + len(SIZES)] for line in table.values()), strict=True))
    for extent, label in _EXTENTS.items():
        yield f"| {label} | {' | '.join(str(column.count(extent)) for column in columns)} |"


def _tables(written: str) -> dict[str, Lines]:
    """The rows of a document, by the version since which they hold."""
    opening = re.search(r" families, with transformers ([0-9.]+):\n", written)
    if opening is None:
        return {}
    first, _, later = written[opening.end() :].partition(f"| since {_COLUMNS}\n")
    tables = {opening[1]: _named(first.partition(f"{_COLUMNS}\n")[2].splitlines())}
    for line in later.splitlines():
        since, _, rest = line.removeprefix("| ").partition(" ")
        if rest:
            tables.setdefault(since, {}).update(_named([rest]))
    return tables


def _named(lines: Iterable[str]) -> Lines:
    return {line.split(" | ")[0].removeprefix("| "): line for line in lines if line.startswith("| ")}


def _order(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))
