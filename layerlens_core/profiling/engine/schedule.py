"""The pieces of work of a pass: which samples go through the model together, fixed before the pass begins.

Whoever takes a piece, and whenever, it is the same piece with the same padding, so that its numbers are the same to the
last bit. That makes an interrupted pass end with the numbers of one that was not, and several processes with those
of one. A piece is a tuple of chunks (`layerlens_core.profiling.engine.ledger`).
"""

from collections.abc import Collection, Mapping, Sequence

from attrs import frozen

Piece = tuple[int, ...]


@frozen
class Composition:
    """How chunks are put together.

    samples: in a piece; whole chunks, at least one.
    singles: how many chunks, at the beginning, are a piece each: those that showed how much memory a sample takes.
    """

    samples: int
    singles: int = 0


def arranged(lengths: Mapping[int, int], full_groups: int) -> list[int]:
    """Chunks by falling length, so that neighbours need little padding and memory runs out early if it does.

    lengths: of each chunk's longest sample. The chunk that fills no group (not below ``full_groups``) is last.
    """
    return sorted(lengths, key=lambda chunk: (chunk >= full_groups, -lengths[chunk], chunk))


def pieces(order: Sequence[int], composition: Composition, *, group_size: int, full_groups: int) -> list[Piece]:
    """The chunks in this order as pieces of work. One that fills no group has no numbers of a group: it is alone."""
    full = [chunk for chunk in order if chunk < full_groups]
    count, first = max(1, composition.samples // group_size), min(composition.singles, len(full))
    return [
        *((chunk,) for chunk in full[:first]),
        *(tuple(full[start : start + count]) for start in range(first, len(full), count)),
        *((chunk,) for chunk in order if chunk >= full_groups),
    ]


def share(work: Sequence[Piece], missing: Collection[int], *, rank: int, world_size: int) -> list[Piece]:
    """What one of the workers does: of the pieces that lack something, reduced to what they lack, its share in turn."""
    left = [tuple(chunk for chunk in piece if chunk in missing) for piece in work]
    return [piece for piece in left if piece][rank::world_size]
