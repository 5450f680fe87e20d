"""What a measurement is to give, and how it is to run."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import attrs
from attrs import field, frozen

from layerlens_core.errors import DataError
from layerlens_core.files.atomic import writing
from layerlens_core.profiling.distributed.workers import ALONE, Workers
from layerlens_core.profiling.engine.micro_batch import Samples
from layerlens_core.profiling.gradients.routes import Route
from layerlens_core.values.profile import LEADING
from layerlens_core.values.statistics import check_sketched

#: Called with the number of samples done and the number of all.
Progress = Callable[[int, int], None]

#: Seconds between two checkpoints.
SECONDS = 5.0


def _names(names: Iterable[str]) -> frozenset[str]:
    return frozenset(names)


@frozen(kw_only=True)
class Settings:
    """What a measurement's numbers depend on, beside model and data; a checkpoint is refused where any of it differs.

    needs: statistics to gather (`layerlens_core.values.statistics.STATISTICS`).
    group_size: consecutive samples whose mean gradient is ḡ.
    micro_batch: samples in one forward and backward pass; groups that fit are taken whole, and where not even one fits,
        its inputs and output gradients are kept until it is complete. ``auto`` goes by free memory.
    route: force one way to compute the squared norms; None takes the cheapest one by shape.
    sketch_columns: of random projections (`layerlens_core.profiling.gradients.sketches`), whose error the statistics
        then tell; 0 for exact squared norms.
    directions: also give the leading singular vectors of mean gradients. They and the statistic ``spectrum`` come from
        sketches that ``seed`` draws (`layerlens_core.profiling.gradients.range_finder`).
    rank: how many singular values and vectors to find.
    seed: of all that is drawn.
    stages: numbers of samples, ascending, at each of which the pass asks whether it may stop.
    compile: names of layers that `torch.compile` may compile (`layerlens_core.profiling.hooks.compiled`).
    warm_up: what comes after the pass, in words, so that a run is resumed as it was meant.
    """

    needs: frozenset[str] = field(converter=_names)
    group_size: int = 2
    micro_batch: Samples = "auto"
    route: Route | None = None
    sketch_columns: int = 0
    directions: bool = False
    rank: int = LEADING
    seed: int = 0
    stages: tuple[int, ...] = ()
    compile: tuple[str, ...] = ()
    warm_up: str = "none"

    def check(self) -> None:
        """Raises `DataError` where no measurement can have these settings."""
        if self.group_size < 1 or (self.micro_batch != "auto" and self.micro_batch < 1):
            raise DataError(f"group and micro_batch are at least 1, but are {self.group_size} and {self.micro_batch}")
        if self.sketch_columns == 1:
            raise DataError("sketches have at least 2 columns, whose difference tells their error, but asked for was 1")
        if self.sketch_columns:
            check_sketched(self.needs, directions=self.directions)

    @property
    def texts(self) -> dict[str, str]:
        """Every setting as a text to compare, by its name; none can be left out."""
        found = {}
        for name, value in attrs.asdict(self, recurse=False).items():
            parts = sorted(value) if isinstance(value, frozenset) else value
            found[name] = ", ".join(map(str, parts)) or "none" if isinstance(parts, list | tuple) else str(parts)
        return found


@frozen(kw_only=True)
class Execution:
    """How a measurement runs, which does not change its numbers.

    progress: called as samples are done.
    workers: the processes that share the work; all of them measure, and all get the result.
    run: a directory into which checkpoints are written (`layerlens_core.profiling.engine.checkpoint`).
    resume: go on from the checkpoint. The numbers are then those of a pass that was not interrupted, to the last bit
        unless layers are compiled.
    seconds: between two checkpoints.
    """

    progress: Progress = field(default=lambda done, total: None)
    workers: Workers = ALONE
    run: Path | None = field(default=None, converter=attrs.converters.optional(Path))
    resume: bool = False
    seconds: float = SECONDS

    def writing(self) -> AbstractContextManager[None]:
        """Keep other runs out of the directory; of several processes the first one does. Raises `FileError`."""
        return writing(self.run) if self.run is not None and self.workers.rank == 0 else nullcontext()
