"""What a comparison writes at its end, which several processes that share it reach at the same moment."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from layerlens_core.comparison.compared import COMPARED, SCHEMA, VERSION, Comparison
from layerlens_core.comparison.jobs.signs import remove
from layerlens_core.comparison.jobs.store import COMPARISON
from layerlens_core.files import documents
from layerlens_core.files.atomic import writing
from layerlens_core.files.lock import BusyError, is_held
from layerlens_core.files.run import GAINS
from layerlens_core.values.recipe import Recipe

#: Seconds for which another process is waited for that writes into the run.
PATIENCE = 30.0


def save(comparison: Comparison, recipe: Recipe, run: Path, *, contradicted: bool = False) -> None:
    """Write what was found, one process after the other: the comparison, the recipe, and gains where there are any.

    comparison: what was found.
    recipe: of the run.
    run: its directory.
    contradicted: take away the gains of an earlier comparison, where this one has none.

    Raises `FileError`, also where another process writes there for longer than `PATIENCE`.
    """
    with _alone(run):
        folder = run / COMPARISON
        for half in folder.glob(f".{COMPARED}.*") if is_held(run) else ():
            remove(half)  # of a process that was killed, as no other writes now
        documents.write(folder / COMPARED, comparison, schema=SCHEMA, version=VERSION)
        recipe.save(run)
        if comparison.gains is not None:
            comparison.gains.save(run)
        elif contradicted:
            (run / GAINS).unlink(missing_ok=True)


@contextmanager
def _alone(run: Path) -> Iterator[None]:
    """Hold a run's lock, once others have given it back."""
    until = time.monotonic() + PATIENCE
    with ExitStack() as held:
        while True:
            try:
                held.enter_context(writing(run))
                break
            except BusyError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)
        yield
