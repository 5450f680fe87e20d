"""An audit in words: a table of what was checked, what was not, and the first field that does not follow."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from layerlens_core.auditing.findings import Audit, Finding
from layerlens_core.errors import brief


def print_checked(audit: Audit) -> None:
    """Print what was checked, and how often."""
    from rich.table import Table

    from layerlens_core.cli.tables import results_console

    table = Table(box=None, pad_edge=False)
    table.add_column("file")
    table.add_column("what was checked")
    table.add_column("values", justify="right")
    for each in audit.checked:
        table.add_row(each.file, each.what, f"{each.count:,}")
    results_console().print(table)


def audit_json(audit: Audit) -> str:
    """An audit as JSON."""
    document: dict[str, Any] = {"ok": audit.ok, **attrs.asdict(audit)}
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False)


def finding_lines(audit: Audit, run: Path) -> Iterator[str]:
    """What was not replayed, and the first field that does not follow, with how many more there are."""
    for each in audit.not_replayed:
        yield f"not replayed: {each.what}: {each.why}"
    if audit.other_versions:
        told = ", ".join(f"{name} {was}, here {now}" for name, (was, now) in audit.other_versions.items())
        yield f"other versions: {told}; numbers may differ by {audit.ulps} units in the last place"
    elif audit.ulps:
        yield f"no versions are recorded; numbers may differ by {audit.ulps} units in the last place"
    if audit.ok:
        yield f"{run}: everything that was checked follows"
        return
    more = len(audit.findings) - 1
    yield f"{run}: {sentence(audit.findings[0])}" + (f"; and {more:,} more" if more else "")


def sentence(finding: Finding) -> str:
    """A finding in one line."""
    where = f"{finding.file}{f', {finding.field}' if finding.field else ''}"
    if finding.expected is None and finding.found is None:
        return f"{where}: {finding.why}"
    return f"{where}: expected {_shown(finding.expected)}, found {_shown(finding.found)}; {finding.why}"


def _shown(value: Any) -> str:
    return brief(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
