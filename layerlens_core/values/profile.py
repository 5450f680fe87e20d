"""A profile: what was measured on a model with some data, in plain numbers."""

import platform
from collections.abc import Mapping
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Literal, NamedTuple

from attrs import field, frozen

from layerlens_core.errors import FileError, brief
from layerlens_core.files import documents
from layerlens_core.files.atomic import settle, writing
from layerlens_core.files.run import PROFILE, checkpoints
from layerlens_core.lazy import imported
from layerlens_core.values.consistency.profile import check_profile
from layerlens_core.values.costs import Activations
from layerlens_core.values.inventory import Inventory, Skipped
from layerlens_core.values.scores import RawScores
from layerlens_core.values.statistics import ModuleStatistics

SCHEMA, VERSION = "layerlens/profile", 5
#: How to make one of an earlier version anew.
AGAIN = "profile anew with: layerlens plan MODEL --data FILE --out RUN --overwrite"

#: How many directions of a module's gradient are kept: the largest rank that LoRA is offered at.
LEADING = 64

#: What a model is trained for, which decides its loss.
Task = Literal[
    "causal-lm", "masked-lm", "seq2seq-lm", "sequence-classification", "token-classification", "image-classification"
]


@frozen(kw_only=True)
class Evidence:
    """Whether the samples' labels have to do with their inputs: own labels beside ones that are permuted among them.

    advantage: of own labels over permuted ones; 0 is expected where labels have nothing to do with inputs, whatever
        else there is to learn of them.
    error: its standard error over the samples, or over permutations.
    samples: how many were judged.
    p: how likely labels that mean nothing give as much.
    by: what was compared. ``likelihood``: nats by which the model as it is finds own answers likelier; ``likeness``: by
        how much samples of like labels are more alike in what the head is given (1: the same, 0: as all are);
        ``warm-up``: nats by which the loss of one half of the samples fell more as the other half was trained on.
    """

    advantage: float
    error: float
    samples: int
    p: float
    by: Literal["likelihood", "likeness", "warm-up"]

    @property
    def sentence(self) -> str:
        """In words, with the numbers."""
        what = {
            "likelihood": "the model finds own answers likelier than permuted ones by {} nats",
            "likeness": "samples of like labels are more alike than under permuted labels by {}",
            "warm-up": "own labels are learned better than permuted ones by {} nats",
        }[self.by]
        p = "p < 0.001" if self.p < 0.001 else f"p = {self.p:.3f}"
        return f"{what.format(f'{self.advantage:.3f} ± {self.error:.3f}')} ({p}, {self.samples} samples)"


@frozen(kw_only=True)
class WarmUp:
    """LoRA of all scored modules for the first steps of a run, whose update spans subspaces for cores.

    steps: of the optimizer.
    rank: of every module, at most the smaller of its widths.
    samples: with labels, which the batches were drawn from.
    rate: the largest learning rate.
    batch: samples a step.
    start: of A: along the leading right singular vectors of the mean gradient, or at random.
    seconds: that it took.
    peak: bytes of device memory at most, the model included; 0 where that is not known.
    digest: sha256 of ``subspace.safetensors``, in hexadecimal.
    """

    steps: int
    rank: int
    samples: int
    rate: float
    batch: int
    start: Literal["gradient", "random"]
    seconds: float
    peak: int
    digest: str


class KnownSubspace(NamedTuple):
    """The file that a plan's cores lie in.

    digest: sha256 of the file, in hexadecimal.
    rank: directions of a module at most.
    """

    digest: str
    rank: int


@frozen(kw_only=True)
class Profile:
    """Raw scores and statistics of one model on one set of samples.

    inventory: of the model.
    task: one of `Task`.
    scores: raw, one entry a metric.
    statistics: one entry a module.
    unscored: modules without a score, with the reason (never called, no gradient …).
    labels: names of the classes, in order, for classification from data with named labels.
    data: digest of the samples.
    samples: how many counted.
    loss: their mean loss in nats.
    settings: what else the numbers depend on (group size, seed …).
    versions: of the packages that ran.
    activations: what the forward pass keeps for the backward pass.
    latency: by method, seconds of one target at any size, and for each step of size, on the device that was profiled
        on.
    stability: by metric, the mean rank correlation between layers as scored by one half of the samples and by the
        other; of an active metric that of the halves which it scored, or what its standard errors let expect. Metrics
        of which nothing is known are left out.
    module_stability: the same between modules, by metric that scores modules.
    evidence: whether labels have to do with inputs, where that was tried (`layerlens_core.comparison.related` and
        `layerlens_core.comparison.learnable`).
    directions: sha256 digest of the side file of the gradients' singular vectors, in hexadecimal, where one was
        written.
    warm_up: how adapters were trained for subspaces, where they were.
    """

    inventory: Inventory
    task: str
    scores: tuple[RawScores, ...]
    statistics: tuple[ModuleStatistics, ...]
    unscored: tuple[Skipped, ...] = ()
    labels: tuple[str, ...] = ()
    data: str
    samples: int
    loss: float
    settings: Mapping[str, int | float | str] = field(factory=dict)
    versions: Mapping[str, str] = field(factory=dict)
    activations: Activations | None = None
    latency: Mapping[str, tuple[float, float]] = field(factory=dict)
    stability: Mapping[str, float] = field(factory=dict)
    directions: str | None = None
    module_stability: Mapping[str, float] = field(factory=dict)
    evidence: Evidence | None = None
    warm_up: WarmUp | None = None

    @property
    def subspace(self) -> KnownSubspace | None:
        """What cores can lie in: the warm-up's where there was one, else the gradient's; None without either."""
        return self.subspace_of_warm_up or self.subspace_of_gradient

    @property
    def subspace_of_warm_up(self) -> KnownSubspace | None:
        """That of the warm-up, where there was one."""
        return None if self.warm_up is None else KnownSubspace(self.warm_up.digest, self.warm_up.rank)

    @property
    def subspace_of_gradient(self) -> KnownSubspace | None:
        """That of the mean gradient, where its directions were kept."""
        return None if self.directions is None else KnownSubspace(self.directions, LEADING)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of its file, in hexadecimal, by which plan, recipe and trace name it."""
        return documents.digest(self, schema=SCHEMA, version=VERSION)

    def __repr__(self) -> str:
        metrics = ", ".join(scores.metric for scores in self.scores) or "nothing"
        return (
            f"Profile({self.inventory.architecture}, {self.task}, {self.samples:,} samples, "
            f"{len(self.inventory.layers)} layers scored by {metrics})"
        )

    def _repr_html_(self) -> str:
        """Scores by layer and module, as notebooks show it (`layerlens_core.reporting.notebook`)."""
        return str(imported("reporting.notebook", "of_profile")(self))

    def save(self, run: str | Path) -> Path:
        """Write ``profile.json`` into the run's directory, and remove the checkpoints of the unfinished profile.

        Raises `FileError`, where another process writes there too.
        """
        path = Path(run) / PROFILE
        with writing(path.parent):
            documents.write(path, self, schema=SCHEMA, version=VERSION)
            for checkpoint in checkpoints(run):
                checkpoint.unlink(missing_ok=True)
        return path

    @classmethod
    def load(cls, run: str | Path) -> "Profile":
        """Read the profile of a run. Raises `FileError`, where it contradicts itself too."""
        path = Path(run) / PROFILE
        settle(path.parent)
        profile, digest = documents.read_named(path, cls, schema=SCHEMA, version=VERSION, again=AGAIN)
        try:
            check_profile(profile)
        except ValueError as error:
            raise FileError(f"{path} was changed or damaged: {brief(error)}") from None
        documents.remember_digest(profile, digest)
        return profile


def here() -> dict[str, str]:
    """What else the last digits of a plan depend on: NumPy's version, and the kind of machine."""
    return {"numpy": version("numpy"), "platform": f"{platform.system()}-{platform.machine()}"}


def versions() -> dict[str, str]:
    """Versions of the packages that the numbers depend on; none of them is imported to find out."""
    packages = {"layerlens": "layerlens-core", "torch": "torch", "transformers": "transformers", "peft": "peft"}
    return {"python": platform.python_version(), **{name: version(package) for name, package in packages.items()}}
