"""Random states that are known: whoever draws from them without a seed of its own is found out."""

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside, Python, NumPy and, where it is imported, torch draw as after this seed; afterwards as before."""
    import numpy

    before = states()
    torch = sys.modules.get("torch")
    random.seed(seed)
    numpy.random.seed(seed)
    if torch is not None:
        torch.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(before["random"])
        numpy.random.set_state(before["numpy"])
        if torch is not None:
            torch.set_rng_state(before["torch"])


def states() -> dict[str, Any]:
    """The random state of each library, as plain values that compare; torch's as a tensor, on the CPU."""
    import numpy

    found: dict[str, Any] = {"random": random.getstate(), "numpy": numpy.random.get_state()}
    if (torch := sys.modules.get("torch")) is not None:
        found["torch"] = torch.get_rng_state()
    return found


def digests() -> dict[str, str]:
    """The random state of each library in a few words, by library."""
    import hashlib

    found = {}
    for name, state in states().items():
        content = state.numpy().tobytes() if name == "torch" else repr(state).encode()
        found[name] = hashlib.sha256(content).hexdigest()
    return found
