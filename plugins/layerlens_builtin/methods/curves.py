"""How much of a layer's gain each method reaches by size: the one place of these numbers, with what they rest on.

``tests/benchmarks/study/gain_curves.py`` fits them to arms that were trained.
"""

from typing import NamedTuple


class Curve(NamedTuple):
    """The share ceiling · n / (n + half) at n notches, and where the two numbers come from, in words."""

    ceiling: float
    half: float
    source: str


ASSUMED = "assumed, not measured; `layerlens compare` with arms such as method:lora measures them"

LORA = Curve(ceiling=1.0, half=8.0, source=ASSUMED)
ADAPTER = Curve(ceiling=0.85, half=4.0, source=ASSUMED)
PREFIX = Curve(ceiling=0.6, half=2.0, source=ASSUMED)
