"""Where cores get their subspace from, as the study's names say it."""

import attrs

#: The rank of a warm-up, where its name says none, and its rate: `RATE` / √rank, 5e-3 at 64.
RANK, RATE = 64, 0.04
#: Cores that start as the update their subspace was taken from; sizes by the update's energy; both follow a ``+``.
CONTINUED, SIZED = "continued", "sized"


@attrs.frozen
class Source:
    """A source, ``warm-0.1:rank=16:rate=1e-2:aligned+sized`` say, or ``gradient``, ``weights``, ``random``.

    subspace: the name up to its first ``+``.
    marks: what follows it.
    share: of the run's steps, of a warm-up; 0 for others.
    rank: of the warm-up.
    rate: of the warm-up.
    aligned: whether A of the warm-up starts along the leading directions of the mean gradient.
    """

    subspace: str
    marks: tuple[str, ...] = ()
    share: float = 0.0
    rank: int = RANK
    rate: float = RATE / RANK**0.5
    aligned: bool = False

    @classmethod
    def of(cls, name: str) -> "Source":
        """What a name says.

        name: as above. Raises `SystemExit` where it cannot be read.
        """
        subspace, *marks = name.split("+")
        kind, *options = subspace.split(":")
        if unknown := set(marks) - {CONTINUED, SIZED}:
            raise SystemExit(f"{name}: {sorted(unknown)[0]} is neither {CONTINUED} nor {SIZED}")
        if not kind.startswith("warm-"):
            return cls(subspace, tuple(marks))
        said = dict(option.partition("=")[::2] for option in options)
        if unknown := said.keys() - {"rank", "rate", "aligned"}:
            raise SystemExit(f"{name}: {sorted(unknown)[0]} is none of rank, rate, aligned")
        rank = int(said.get("rank", RANK))
        rate = float(said.get("rate", RATE / rank**0.5))
        return cls(subspace, tuple(marks), float(kind.removeprefix("warm-")), rank, rate, "aligned" in said)

    def recipe(self, seed: int, profiled: int) -> str:
        """What its subspace goes by in jobs.

        seed: of the run.
        profiled: samples of the mean gradient.
        """
        if self.share:
            start = " along the gradient" if self.aligned else ""
            return f"warm-{self.share:g} of rank {self.rank} at {self.rate:g}{start}, seed {seed}"
        return f"gradient of {profiled} samples" if self.subspace == "gradient" else self.subspace
