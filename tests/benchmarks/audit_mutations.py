"""Every change of a single field of a run's files: what share does the audit find, and by what?

    .venv/bin/python tests/benchmarks/audit_mutations.py [--stride 1] [--forged-stride 5] [--processes 2]

Runs of four strategies on two architectures, made without a model, each with a comparison, and half of them with side
files. In every file each number is changed by one in its last written digit, each text by a letter, each list by an
entry, each key is renamed and removed, each line of the trace removed and doubled. Then the same by somebody who also
makes all digests and seals anew, so that only replaying, and what files say of the same, can tell.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from auditing.made import make_run, profile_of
from auditing.single import FILES, Change, changes, forge

from layerlens_core.auditing.audit import audit
from layerlens_core.errors import VersionError
from layerlens_core.files.run import TRACE

STRATEGIES: dict[str, dict[str, Any]] = {
    "tempered": {},
    "threshold": {"strategy": "threshold"},
    "budget": {"strategy": "budget", "methods": "lora,adapter"},
    "cost-benefit": {"strategy": "cost-benefit"},
}
MODELS = ("bert", "llama")
#: By what a change is found first, in the order of the columns.
BY = ("reader", "version", "derivation", "link", "digest", "seal", "nothing")


def found_by(run: Path) -> str:
    """By what the first finding of a run is made."""
    try:
        found = audit(run).findings
    except VersionError:
        return "version"
    return found[0].kind if found else "nothing"


def says_the_same(change: Change, before: bytes) -> bool:
    """Whether a number was only spelled otherwise, and is read as the same one."""
    if change.how != "last digit":
        return False
    if change.file != TRACE:
        return bool(json.loads(before) == json.loads(change.content))
    lines = zip(before.splitlines(), change.content.splitlines(), strict=True)
    return all(one == other or json.loads(one) == json.loads(other) for one, other in lines)


def counted(
    strategy: str, model: str, file: str, stride: int, forged: bool
) -> tuple[str, bool, Counter[str], list[str]]:
    """What becomes of the changes of one file: the file, whether forged, how often by what, and what is missed."""
    count: Counter[str] = Counter()
    missed = []
    with tempfile.TemporaryDirectory() as root:
        run = Path(root) / "run"
        asked = {"budget": "params=r=2", **STRATEGIES[strategy]}
        make_run(run, profile_of(model), vectors=model == "bert", compared=True, **asked)
        valid = Path(shutil.copytree(run, Path(root) / "valid"))
        assert audit(run).ok
        before = (run / file).read_bytes()
        for change in changes(run, file, stride=stride):
            (run / file).write_bytes(change.content)
            if forged:
                forge(run)
            by = found_by(run)
            if by == "nothing":
                by = "the same number" if says_the_same(change, before) else by
                missed.append(f"{general(change)}, {change.how}")
            count[by] += 1
            for name in FILES if forged else (file,):
                shutil.copy(valid / name, run / name)
    return file, forged, count, missed


def general(change: Change) -> str:
    """The place of a change without numbers of entries and names of modules."""
    return ".".join("*" if isinstance(each, int) or "." in each else each for each in change.place)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--forged-stride", type=int, default=5)
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    tasks = [
        (strategy, model, file, given.forged_stride if forged else given.stride, forged)
        for forged in (False, True)
        for strategy in STRATEGIES
        for model in MODELS
        for file in FILES
    ]
    totals: dict[tuple[str, bool], Counter[str]] = {}
    missed: Counter[str] = Counter()
    with ProcessPoolExecutor(given.processes) as pool:
        for file, forged, count, lacking in pool.map(counted, *zip(*tasks, strict=True)):
            totals.setdefault((file, forged), Counter()).update(count)
            if not forged and lacking:
                print("NOT FOUND:", file, lacking)
            missed.update(f"{file}: {each}" for each in lacking)
    for line in table(totals):
        print(line)
    print("\nnot found where digests and seals were made anew:")
    for what, count in sorted(missed.items()):
        print(f"  {count:5}  {what}")


def table(totals: dict[tuple[str, bool], Counter[str]]) -> Iterator[str]:
    """Rows of Markdown."""
    columns = (*BY, "the same number")
    yield f"| file | changes | found | {' | '.join(columns)} |"
    yield "|---" * (len(columns) + 3) + "|"
    for (file, forged), count in totals.items():
        name = f"`{file}`" + (", digests made anew" if forged else "")
        total = count.total()
        share = 1 - (count["nothing"] + count["the same number"]) / total
        yield f"| {name} | {total:,} | {share:.1%} | " + " | ".join(f"{count[each]:,}" for each in columns) + " |"


if __name__ == "__main__":
    main()
