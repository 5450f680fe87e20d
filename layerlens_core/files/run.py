"""Which files a run's directory holds, and how they change together."""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from layerlens_core.files.atomic import discard, filling

#: What was measured (`layerlens_core.values.profile`).
PROFILE = "profile.json"
#: Singular vectors of mean gradients, beside the profile (`layerlens_core.files.directions`).
DIRECTIONS = "directions.safetensors"
#: Likewise, of a warm-up's update.
SUBSPACE = "subspace.safetensors"
#: The state of a profile that is not complete (`layerlens_core.profiling.engine.checkpoint`).
CHECKPOINT = "profile.partial"
#: What was decided (`layerlens_core.values.plan`).
PLAN = "plan.json"
#: How each decision came about (`layerlens_core.tracing`).
TRACE = "trace.jsonl"
#: How to train the plan (`layerlens_core.values.recipe`).
RECIPE = "recipe.json"
#: How much each method gains, as a comparison measured it (`layerlens_core.values.gains`).
GAINS = "gains.json"

#: Those that a complete run may hold.
FILES = (PROFILE, DIRECTIONS, SUBSPACE, PLAN, TRACE, RECIPE, GAINS)
#: Of these, the ones that are a profile, or were measured for one, whatever is planned from it.
OF_PROFILE = (PROFILE, DIRECTIONS, SUBSPACE, GAINS)


def checkpoints(run: str | Path) -> list[Path]:
    """The files of a profile that is not complete, one a process, by name."""
    return sorted(Path(run).glob(f"{CHECKPOINT}*"))


@contextmanager
def rewriting(run: Path) -> Iterator[Path]:
    """A directory whose files become the run's, together, at the end (`layerlens_core.files.atomic.filling`).

    With a profile among them they are a new run, and all files of the old one go away, its checkpoints too. Without one
    they replace those of their names; another plan takes the recipe of the old one away. Whoever saves into the
    directory makes it.
    """
    with filling(run, lazily=True) as staging:
        yield staging
        if (staging / PLAN).exists() and not _same(staging / PLAN, run / PLAN):
            discard(staging, [name for name in (RECIPE,) if not (staging / name).exists()])
        if (staging / PROFILE).exists():
            old = [name for name in FILES if not (staging / name).exists()]
            discard(staging, [*old, *(path.name for path in checkpoints(run))])


def bring_along(run: Path, names: Iterable[str], into: Path) -> None:
    """Copy files of another run, as far as they are there, into a directory that is gathered.

    run: the other run's directory.
    names: of the files.
    into: made where it is missing.
    """
    for name in names:
        if (run / name).exists():
            into.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(run / name, into / name)


def _same(one: Path, other: Path) -> bool:
    return other.exists() and one.read_bytes() == other.read_bytes()
