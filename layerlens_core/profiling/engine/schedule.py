"""The pieces of work of a pass: which chunks are measured at one go, fixed before the pass begins.

A piece is a tuple of chunks (`layerlens_core.profiling.engine.ledger`). It is the same piece with the same padding
whichever worker measures it, and whenever, so that its numbers are the same to the last bit. Hence a pass that was
interrupted ends with the numbers of one that was not, and several processes with those of one.
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

    lengths: tokens of each chunk's longest sample.
    full_groups: how many chunks fill a group; the one that does not comes last.
    """
    return sorted(lengths, key=lambda chunk: (chunk >= full_groups, -lengths[chunk], chunk))


def pieces(order: Sequence[int], composition: Composition, *, group_size: int, full_groups: int) -> list[Piece]:
    """The chunks in this order as pieces of work.

    The chunk that fills no group is a piece by itself, since it has no numbers by group.

    order: of the chunks.
    composition: how they are put together.
    group_size: samples in a group.
    full_groups: how many chunks fill a group.
    """
    full = [chunk for chunk in order if chunk < full_groups]
    count, first = max(1, composition.samples // group_size), min(composition.singles, len(full))
    return [
        *((chunk,) for chunk in full[:first]),
        *(tuple(full[start : start + count]) for start in range(first, len(full), count)),
        *((chunk,) for chunk in order if chunk >= full_groups),
    ]


def share(work: Sequence[Piece], missing: Collection[int], *, rank: int, world_size: int) -> list[Piece]:
    """What one of the workers does: every ``world_size``-th of the pieces in which a chunk is missing.

    work: all pieces; the share holds only their missing chunks.
    missing: chunks that are still to be measured.
    rank: of the worker.
    world_size: how many workers there are.
    """
    left = [tuple(chunk for chunk in piece if chunk in missing) for piece in work]
    return [piece for piece in left if piece][rank::world_size]
