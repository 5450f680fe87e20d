"""Subspaces: by linear module, the leading directions that its output and its input are changed along."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Pair(NamedTuple):
    """Leading singular vectors of one matrix [out, in], such as a module's mean gradient or its update.

    Row i of ``left`` belongs to row i of ``right``: σᵢ · leftᵢ ⊗ rightᵢ is the i-th term of the decomposition. So
    changing the sign of one changes that of the other. The first n rows of each are the leading subspaces of size n.

    left: orthonormal rows [k, out], float32, the leading one first.
    right: orthonormal rows [k, in], float32, the leading one first.
    """

    left: NDArray[np.float32]
    right: NDArray[np.float32]


#: By name of the linear module; k may differ from one to another.
Subspace = Mapping[str, Pair]
