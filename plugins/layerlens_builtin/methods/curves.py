"""How much of a layer's gain each method reaches by size: the one place of these numbers, with what they rest on.

``tests/benchmarks/study/gain_curves.py`` fits them to arms that were trained.
"""

from typing import NamedTuple


class Curve(NamedTuple):
    """The share ceiling · n / (n + half) at n notches, and where the two numbers come from, in words."""

    ceiling: float
    half: float
    source: str


#: A Llama of 24 M parameters on an eighth of a run of GSM8K, MiniLM on whole runs of intents as classes. One setting's
#: method of choice is another's last: LoRA is best on GSM8K (adapters 0.93 of it, prefixes 0.74), and prefixes on
#: intents, where a rank of 1 gains all there is. Hence halves far below a notch, and curves that miss by 0.07 (LoRA),
#: 0.03 (adapters) and 0.10 (prefixes) of what can be gained.
FITTED = "fitted to 18 arms on two models, ± 0.1 of what can be gained (docs/evidence.md)"

LORA = Curve(ceiling=1.0, half=0.05, source=FITTED)
ADAPTER = Curve(ceiling=0.986, half=0.068, source=FITTED)
PREFIX = Curve(ceiling=0.915, half=0.063, source=FITTED)
