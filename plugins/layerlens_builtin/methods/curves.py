"""How much of a layer's gain each method reaches by size: the one place of these numbers, with what they rest on.

``tests/benchmarks/study/gain_curves.py`` fits them to arms that were trained.
"""

from typing import NamedTuple


class Curve(NamedTuple):
    """The share ceiling · n / (n + half) at n notches, and where the two numbers come from, in words."""

    ceiling: float
    half: float
    source: str


#: A Llama of 24 M parameters on GSM8K, MiniLM on intents as classes, whole runs of both. One setting's method of choice
#: is another's last: LoRA is best on GSM8K (adapters 0.95 of it, prefixes 0.85), and prefixes on intents, where a rank
#: of 1 gains all there is. Hence halves far below a notch, and curves that miss by 0.05 (LoRA), 0.03 (adapters) and
#: 0.06 (prefixes) of what can be gained.
FITTED = "fitted to 27 arms on two models, ± 0.06 of what can be gained (docs/evidence.md)"
#: Of the same fit, in the subspaces of a warm-up of a tenth of the run; alike on both models, to 0.02.
CORES = f"{FITTED}, in subspaces of a warm-up of a tenth of the run; those of a gradient gain less"

LORA = Curve(ceiling=0.993, half=0.05, source=FITTED)
ADAPTER = Curve(ceiling=0.992, half=0.086, source=FITTED)
PREFIX = Curve(ceiling=0.968, half=0.05, source=FITTED)
CORE = Curve(ceiling=1.0, half=1.25, source=CORES)
