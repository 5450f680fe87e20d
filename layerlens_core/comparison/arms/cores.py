"""Cores in the subspaces of one source: sizes by the width of each module, as large as the budget allows.

A core's size is ⌊√(r · (in + out))⌋: the parameters that LoRA of rank r has there, r below 1 or not.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial

from layerlens_core.comparison.arms.case import Case
from layerlens_core.comparison.arms.fitting import fill, largest
from layerlens_core.comparison.arms.ground import Unfit
from layerlens_core.values.comparison import RANDOM, WEIGHTS, Arm
from layerlens_core.values.plan import CORE
from layerlens_core.values.profile import KnownSubspace, Profile

#: More directions than any module has.
_ALL = 2**31


def of_source(source: str, case: Case) -> Arm:
    """Cores in the subspaces of a source, on all modules that take one.

    source: of `SOURCES`, or nothing for what the profile's plans use.
    case: that the arm is made for.

    Raises `Unfit` where the profile does not hold them, and where a budget is too small for any core.
    """
    subspace = SOURCES[source](case.profile) if source else held(case.profile)
    ground, shapes = case.ground(CORE), case.profile.inventory.shapes
    places = ground.places(CORE)
    caps = {place.name: min(place.cap, subspace.rank) for place in places}
    widths = {name: shapes[name]["in_features"] + shapes[name]["out_features"] for name in caps}

    def sizes_at(rank: float) -> dict[str, int]:
        return {name: min(math.isqrt(int(rank * width)), caps[name]) for name, width in widths.items()}

    rank, even = largest(ground, CORE, sizes_at)
    sizes = fill(ground, CORE, even, case.drawn("cores", places), caps)
    reason = f"cores with the parameters of LoRA's rank {rank:.3g} at {sum(map(bool, sizes.values()))} places"
    if more := sum(sizes[name] > even[name] for name in even):
        reason += f", and one more at {more} of them, drawn by seed {case.seed}, for what the budget leaves"
    return case.arm({CORE: sizes}, reason, subspace=subspace.digest)


def held(profile: Profile) -> KnownSubspace:
    """What a profile's plans put cores in: of its warm-up, else of its gradient. Raises `Unfit` without either."""
    if profile.subspace is None:
        raise Unfit("the profile holds no subspaces; profile again with --warm-up 10% (better) or --directions")
    return profile.subspace


def _of_warm_up(profile: Profile) -> KnownSubspace:
    if (known := profile.subspace_of_warm_up) is None:
        raise Unfit("the profile holds no subspaces of a warm-up; profile again with --warm-up 10%")
    return known


def _of_gradient(profile: Profile) -> KnownSubspace:
    if (known := profile.subspace_of_gradient) is None:
        raise Unfit("the profile holds no directions of the gradient; profile again with --directions")
    return known


def _made(source: str, _profile: Profile) -> KnownSubspace:
    return KnownSubspace(source, _ALL)


#: By source, where the cores of the arm ``core+SOURCE`` lie.
SOURCES: Mapping[str, Callable[[Profile], KnownSubspace]] = {
    "warm-up": _of_warm_up,
    "gradient": _of_gradient,
    "weights": partial(_made, WEIGHTS),
    "random": partial(_made, RANDOM),
}
