"""The pieces of work of a pass: which samples go through the model together, fixed before the pass begins.

Whoever takes a piece, and whenever, it is the same piece with the same padding, so that its numbers are the same to the
last bit. That makes an interrupted pass end with the numbers of one that was not, and several processes with those
of one. A piece is a tuple of units (`layerlens_core.profiling.engine.ledger`).
"""

from collections.abc import Collection, Mapping, Sequence

from attrs import frozen

Piece = tuple[int, ...]


@frozen
class Composition:
    """How units are put together. size: samples in a piece; whole units, at least one.

    singles: how many units, at the beginning, are a piece each: those that showed how much memory a sample takes.
    """

    size: int
    singles: int = 0


def arranged(lengths: Mapping[int, int], groups: int) -> list[int]:
    """Units by falling length, so that neighbours need little padding and memory runs out early if it does.

    lengths: of each unit's longest sample. The unit that fills no group (its number is not below ``groups``) is last.
    """
    return sorted(lengths, key=lambda unit: (unit >= groups, -lengths[unit], unit))


def pieces(order: Sequence[int], composition: Composition, *, group: int, groups: int) -> list[Piece]:
    """The units in this order as pieces of work. A unit that fills no group has no numbers of a group: it is alone."""
    full = [unit for unit in order if unit < groups]
    count, first = max(1, composition.size // group), min(composition.singles, len(full))
    return [
        *((unit,) for unit in full[:first]),
        *(tuple(full[start : start + count]) for start in range(first, len(full), count)),
        *((unit,) for unit in order if unit >= groups),
    ]


def share(work: Sequence[Piece], missing: Collection[int], *, rank: int, workers: int) -> list[Piece]:
    """What one of the workers does: every so-manieth piece of those in which something is missing, and only that."""
    left = [tuple(unit for unit in piece if unit in missing) for piece in work]
    return [piece for piece in left if piece][rank::workers]
