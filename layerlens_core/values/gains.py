"""How much of what training could gain a method reaches at a size: its curve, and where that comes from."""

import math
from collections.abc import Collection, Mapping
from pathlib import Path

from attrs import frozen

from layerlens_core.errors import FileError
from layerlens_core.files import documents
from layerlens_core.files.atomic import settle
from layerlens_core.files.run import GAINS

SCHEMA, VERSION = "layerlens/gains", 2


@frozen(kw_only=True)
class GainCurve:
    """A method's gain by size: the share ceiling · n / (n + half) at n notches of the method.

    ceiling: the share of a layer's gain that it reaches at any size; of methods that were measured together, the
        largest is 1.
    half: the notches at which it reaches half of that.
    spread: root mean square of what the curve misses, as a share of what its setting can gain; None where that was not
        measured.
    source: what it rests on, in words.
    """

    ceiling: float
    half: float
    spread: float | None
    source: str

    def at(self, notches: float) -> float:
        """The share of the gain at a size."""
        return self.ceiling * notches / (notches + self.half)

    @property
    def sound(self) -> bool:
        """Whether its numbers are such that gains are finite and grow with the size."""
        return 0 <= self.ceiling < math.inf and 0 < self.half < math.inf and 0 <= (self.spread or 0.0) < math.inf


@frozen(kw_only=True)
class Gains:
    """The curves that the arms of a run's comparison gave.

    curves: by method. Their ceilings count only beside each other.
    setting: digest of model, data and versions (`layerlens_core.values.comparison.Setting`).
    profile: SHA-256 of the file of the run's profile, in hexadecimal.
    """

    curves: Mapping[str, GainCurve]
    setting: str
    profile: str

    def lacking(self, methods: Collection[str]) -> list[str]:
        """Which of these methods have no curve; ``none`` needs none.

        methods: names.
        """
        return sorted(name for name in methods if name != "none" and name not in self.curves)

    def save(self, run: str | Path) -> Path:
        """Write ``gains.json`` into the run's directory.

        Raises `FileError`, where another process writes there too.
        """
        return documents.write_into(run, GAINS, self, schema=SCHEMA, version=VERSION, sealed=True)

    @classmethod
    def load(cls, run: str | Path, *, broken_too: bool = False) -> "Gains":
        """Read the curves of a run.

        run: its directory.
        broken_too: also those of a file whose seal is broken.

        Raises `FileError` where there are none, or where they are damaged.
        """
        path = Path(run) / GAINS
        settle(path.parent)
        if not path.exists():
            raise FileError(
                f"{path} does not exist: how much methods gain was not measured in this run; measure it with: "
                f"layerlens compare {run} --arms method:lora,method:adapter,method:prefix --budgets r=1,4,16 …"
            )
        again = f"remove it, and compare anew with: layerlens compare {run} …"
        gains = documents.read(
            path, cls, schema=SCHEMA, version=VERSION, sealed=True, broken_too=broken_too, again=again
        )
        for method, curve in gains.curves.items():
            if not curve.sound:
                raise FileError(
                    f"{path} is damaged: the curve of {method} has a ceiling of {curve.ceiling:g}, a half of "
                    f"{curve.half:g} and a spread of {curve.spread}"
                )
        return gains
