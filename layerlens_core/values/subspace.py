"""Subspaces: by linear module, the leading directions that its output and its input are changed along.

The record is declared where its file is read and written, since files lie below values.
"""

from layerlens_core.files.directions import Pair as Pair
from layerlens_core.files.directions import Source as Source
from layerlens_core.files.directions import Subspace as Subspace
