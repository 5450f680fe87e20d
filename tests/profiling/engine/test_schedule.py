"""The pieces of work of a pass."""

from layerlens_core.profiling.engine.schedule import Composition, arranged, pieces, share


def test_pieces_are_the_same_whoever_takes_them_and_whatever_is_done():
    lengths = {unit: (unit * 7) % 5 for unit in range(12)} | {12: 99}  # the last one fills no group
    order = arranged(lengths, 12)
    assert order[-1] == 12
    assert [lengths[unit] for unit in order[:-1]] == sorted((lengths[u] for u in range(12)), reverse=True)
    work = pieces(order, Composition(9, singles=2), group_size=2, full_groups=12)
    assert [unit for piece in work for unit in piece] == order
    assert [len(piece) for piece in work] == [1, 1, 4, 4, 2, 1]
    for workers in (1, 2, 3, 8):
        shares = [share(work, range(13), rank=rank, world_size=workers) for rank in range(workers)]
        assert sorted(piece for part in shares for piece in part) == sorted(work)
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert share(work, [*work[2][2:], 12], rank=0, world_size=1) == [work[2][2:], (12,)]
    assert pieces([0], Composition(1), group_size=4, full_groups=1) == [(0,)]  # at least a chunk
