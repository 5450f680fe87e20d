"""The tables of docs/exactness.md."""

import re
from collections import Counter
from typing import Any

from sweep.classes import MAPPINGS, classes

Results = list[dict[str, Any]]

#: How a sentence that names a module or a class is counted with its like.
_STATUSES = ("exact", "wrong", "refused", "raw", "unrun", "unbuilt", "timeout", "crash")


def tables(results: Results) -> str:
    """By task, by reason of what is unscored, and by name what is not exact."""
    return "\n\n".join([_by_task(results), _unscored(results), _exceptions(results)])


def _by_task(results: Results) -> str:
    lines = [
        "| task | classes | built and run | exact | refused by name | wrong | raw exception "
        "| modules scored | exact to 1e-8 | in float32, to 1e-4 | wrong | unscored | largest error, in float32 |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for task in MAPPINGS:
        of_task = [each for each in results if each["task"] == task]
        counts = Counter(_statuses(of_task).values())
        run = sum(counts[status] for status in ("exact", "wrong", "refused", "raw", "timeout", "crash"))
        wide, narrow = ([each for each in of_task if bool(each["narrow"]) is flag] for flag in (False, True))
        scored = sum(each["scored"] for each in of_task)
        exact, rounded = (sum(each["exact"] for each in some) for some in (wide, narrow))
        unscored = sum(sum(each["unscored"].values()) for each in of_task)
        lines.append(
            f"| {task} | {len(classes(task))} | {run} | {counts['exact']} | {counts['refused']} | {counts['wrong']} "
            f"| {counts['raw'] + counts['crash'] + counts['timeout']} | {scored:,} | {exact:,} | {rounded:,} "
            f"| {scored - exact - rounded:,} | {unscored:,} | {_worst(wide)}, {_worst(narrow)} |"
        )
    return "\n".join(lines)


def _worst(results: Results) -> str:
    """The largest error of those that are exact."""
    errors = [each["worst"] for each in results if each["status"] == "exact"]
    return f"{max(errors):.0e}" if errors else "–"


def _statuses(results: Results) -> dict[str, str]:
    """Of each class, the worst of its patterns."""
    order = ("exact", "unbuilt", "unrun", "refused", "timeout", "crash", "raw", "wrong")
    found: dict[str, str] = {}
    for each in results:
        found[each["name"]] = max(found.get(each["name"], "exact"), each["status"], key=order.index)
    return found


def _unscored(results: Results) -> str:
    """How often each reason is given."""
    reasons: Counter[str] = Counter()
    for each in results:
        for reason, count in each["unscored"].items():
            reasons[_alike(reason)] += count
    lines = ["| modules unscored | reason |", "|---|---|"]
    return "\n".join([*lines, *(f"| {count:,} | {reason} |" for reason, count in reasons.most_common())])


def _exceptions(results: Results) -> str:
    """The classes that are not exact, by what was said of them."""
    said: dict[tuple[str, str], dict[str, None]] = {}
    for each in results:
        if each["status"] != "exact":
            told = f"{len(each['wrong'])} modules or more" if each["status"] == "wrong" else each["error"]
            told = _alike(told.replace(each["name"], "…"))
            said.setdefault((each["status"], told), {})[each["name"]] = None
    ordered = sorted(said.items(), key=lambda item: (_STATUSES.index(item[0][0]), -len(item[1])))
    lines = ["| | what was said | classes |", "|---|---|---|"]
    return "\n".join(
        [*lines, *(f"| {status} | {told[:200]} | {', '.join(names)} |" for (status, told), names in ordered)]
    )


def _alike(said: str) -> str:
    """What is said of one module or batch, in words that are the same for its like."""
    said = re.sub(r" \((?:\w+ \([\d, ]*\)(?:, )?)+\)", "", said)  # shapes
    return re.sub(r"\d+( × \d+)*(?= )", "n", said).replace("|", "\\|")


def of_collators() -> str:
    """What became of each collator's batches."""
    from sweep.collated import COLLATED, held  # imports TRL, which takes seconds

    lines = ["| collator | model | outcome | what was said or found |", "|---|---|---|---|"]
    for case in COLLATED:
        outcome, said = held(case)
        lines.append(f"| {case.name} | {case.family} | {outcome} | {said} |")
    return "\n".join(lines)
