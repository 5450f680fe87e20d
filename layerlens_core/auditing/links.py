"""Which file names which by its digest, and whether that is the one that lies there."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from layerlens_core.auditing.fields import differences
from layerlens_core.auditing.sheet import Sheet
from layerlens_core.auditing.traces import Trace
from layerlens_core.errors import FileError, brief
from layerlens_core.files import documents
from layerlens_core.files.directions import Source, read_directions
from layerlens_core.files.run import DIRECTIONS, PLAN, PROFILE, SUBSPACE, TRACE
from layerlens_core.values.plan import Plan
from layerlens_core.values.profile import Profile


def check_links(
    run: Path, profile: Profile | None, plan: Plan | None, trace: Trace | None, named: Mapping[str, str], sheet: Sheet
) -> None:
    """Compare the digests by which files are named with those of the files.

    run: the run's directory.
    profile: None where it could not be read.
    plan: likewise.
    trace: likewise.
    named: by further files that name the profile, the digest that they give.
    sheet: for what is found.
    """
    finished, made = (trace.last(name) if trace else None for name in ("profile.finished", "plan.made"))
    if profile is not None:
        names = {f"{TRACE}: profile.finished": finished["digest"]} if finished else {}
        names |= {f"{PLAN}: profile": plan.profile} if plan is not None else {}
        _check_parts(run / PROFILE, profile.digest, finished, sheet)
        _check_named(PROFILE, profile.digest, names | {f"{name}: profile": each for name, each in named.items()}, sheet)
        _check_vectors(run, profile, sheet)
    if plan is not None and made is not None:
        _check_parts(run / PLAN, plan.digest, made, sheet)
        _check_named(PLAN, plan.digest, {f"{TRACE}: plan.made": made["digest"]}, sheet)


def _check_parts(path: Path, digest: str, event: Mapping[str, Any] | None, sheet: Sheet) -> None:
    """Which fields of a file are not those that the trace names, or where the trace is wrong, if the file is not."""
    if event is None:
        return
    file, parts = path.name, documents.parts_in(path)
    sheet.tick(TRACE, "digests of other files", len(parts))
    for each in differences(parts, event["parts"]):
        if event["digest"] == digest:
            why = f"the SHA-256 of this field of {file}"
            sheet.find(TRACE, f"{event['event']}: parts.{each.field}", each.expected, each.found, why, "digest")
        else:
            why = f"the SHA-256 by which {TRACE} names this field, in {event['event']}"
            sheet.find(file, each.field, each.found, each.expected, why, "digest")


def _check_named(file: str, digest: str, names: Mapping[str, str], sheet: Sheet) -> None:
    """Where a file is named by several, those that agree are believed."""
    for name in names:
        sheet.tick(name.partition(":")[0], "digests of other files")
    wrong = {name: each for name, each in names.items() if each != digest}
    if wrong and len(wrong) == len(names) and len(set(wrong.values())) == 1:
        named = ", ".join(name.partition(":")[0] for name in names)
        why = f"the SHA-256 of {file} by which {named} name{'s' * (len(names) == 1)} it"
        sheet.find(file, "", next(iter(wrong.values())), digest, why, "digest")
        return
    for name, each in wrong.items():
        where, _, field = name.partition(": ")
        sheet.find(where, field, digest, each, f"the SHA-256 of {file}", "digest")


def _check_vectors(run: Path, profile: Profile, sheet: Sheet) -> None:
    """The side files of directions and of the warm-up's subspace."""
    warmed = profile.warm_up
    sources: tuple[tuple[str, Source, str | None, str], ...] = (
        (DIRECTIONS, "gradient", profile.directions, "directions"),
        (SUBSPACE, "warm-up", None if warmed is None else warmed.digest, "warm_up.digest"),
    )
    for name, source, digest, field in sources:
        path = run / name
        if digest is None:
            if path.exists():
                sheet.find(name, "", "nothing", "a file", f"{PROFILE} names none", "link")
            continue
        sheet.tick(PROFILE, "digests of other files")
        if not path.exists():
            sheet.find(name, "", "a file", "nothing", f"{PROFILE} names it in {field}", "link")
        elif (found := hashlib.sha256(path.read_bytes()).hexdigest()) != digest:
            sheet.find(name, "", digest, found, f"the SHA-256 by which {PROFILE} names it in {field}", "digest")
        else:
            try:
                read_directions(path, fingerprint=profile.inventory.fingerprint, digest=digest, source=source)
            except FileError as error:
                sheet.find(name, "", None, None, brief(error), "reader")
