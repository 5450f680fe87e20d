"""Numbers that somebody else gives: whether they are one, and how to name them where they are not."""

import math
from numbers import Real


def finite(value: object) -> float | None:
    """A finite real number as a float; None for all else.

    NumPy's scalars are numbers. Truth values are not, nor are texts, complex numbers, arrays and tensors.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    try:
        number = float(value)
    except (OverflowError, ValueError, TypeError):
        return None
    return number if math.isfinite(number) else None


def shown(value: object) -> str:
    """What was given in place of a number, short enough for a message."""
    if value is None or isinstance(value, (bool, float, complex)):
        return str(value)
    if isinstance(value, str):
        return repr(value if len(value) <= 20 else value[:20] + "…")
    if isinstance(value, int):
        return "an integer beyond the range of floats"
    if isinstance(value, Real):
        return str(float(value))
    return type(value).__name__
