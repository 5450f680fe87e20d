"""The methods that are computed for many arms at once, and where an arm of each starts, stacked or alone."""

from collections.abc import Mapping
from statistics import fmean

from torch import Tensor

from layerlens_core.adaptation.initialisation import factor_by_rank, set_along
from layerlens_core.comparison.stacked.methods.bottleneck import Bottleneck
from layerlens_core.comparison.stacked.methods.core import TRAINED, Core
from layerlens_core.comparison.stacked.methods.low_rank import A, LowRank
from layerlens_core.comparison.stacked.methods.place import Place
from layerlens_core.comparison.stacked.methods.prefixes import Prefixes
from layerlens_core.comparison.stacked.subspaces import Subspaces
from layerlens_core.values.comparison import Arm, Job
from layerlens_core.values.plan import CORE, LORA_METHODS

#: By the name of the method.
STACKED: Mapping[str, type[Place]] = {"lora": LowRank, "core": Core, "adapter": Bottleneck, "prefix": Prefixes}


def started(
    method: str,
    name: str,
    shape: Mapping[str, int],
    job: Job,
    directions: Mapping[str, Tensor],
    subspaces: Subspaces | None = None,
) -> Mapping[str, Tensor]:
    """An arm's tensors at a place that are not zero at first, by the names that they have in what `apply` attaches.

    method: of `STACKED`.
    name: of the module.
    shape: of the place.
    job: whose arm it is.
    directions: leading right singular vectors of the gradient, by module [k, in].
    subspaces: for cores that start continued.

    Raises `ModelError` where an arm starts continued and it is not known what with.
    """
    size = job.arm.sizes[method][name]
    tensors = dict(STACKED[method].start(name, size, shape, job.seed))
    if A in tensors and job.arm.start == "gradient" and name in directions:
        set_along(tensors[A], directions[name])
    if A in tensors and job.arm.start == "by-rank":
        tensors[A].mul_(scaled_by(job.arm, size))
    if method == CORE and job.arm.start == "continued" and subspaces is not None:
        tensors[TRAINED] = subspaces.start(job, name, size)
    return tensors


def scaled_by(arm: Arm, rank: int) -> float:
    """What A of a rank is scaled by where an arm's LoRA starts by rank.

    arm: with its ranks, over all that is LoRA.
    rank: of the module.
    """
    ranks = [
        each for method in (LORA_METHODS - {CORE}) & arm.sizes.keys() for each in arm.sizes[method].values() if each
    ]
    return factor_by_rank(rank, fmean(ranks))
