"""Triton kernels of `layerlens_core.profiling.gradients.triton`, which says what they are for and launches them."""

# mypy: disable-error-code="untyped-decorator, no-untyped-def"

import triton
import triton.language as tl


@triton.jit
def gram_kernel(
    rows, tiles, found, table, tokens, features, samples, count,
    FUSED: tl.constexpr, BLOCK: tl.constexpr, STEP: tl.constexpr, TMA: tl.constexpr,
):  # fmt: skip
    """Compute one tile a program, and store it; or, where ``FUSED``, store the sum of its products with the stored one.

    rows: [groups · samples, tokens, features], or descriptors of blocks [1, BLOCK, STEP] of them.
    """
    tile = tl.program_id(0)
    group = tl.program_id(1).to(tl.int64)
    first = group * samples + tl.load(table + tile * 4)
    second = group * samples + tl.load(table + tile * 4 + 1)
    above = tl.load(table + tile * 4 + 2)
    beside = tl.load(table + tile * 4 + 3)
    total = tl.zeros((BLOCK, BLOCK), dtype=tl.float32)
    for start in range(0, features, STEP):
        a = _rows(rows, first, above, start, tokens, features, BLOCK, STEP, TMA)
        b = _rows(rows, second, beside, start, tokens, features, BLOCK, STEP, TMA)
        total = tl.dot(a, tl.trans(b), total)
    place = group * count + tile
    entries = tiles + place * BLOCK * BLOCK + tl.arange(0, BLOCK)[:, None] * BLOCK + tl.arange(0, BLOCK)[None, :]
    if FUSED:
        tl.store(found + place, tl.sum(tl.sum(total * tl.load(entries), axis=1), axis=0))
    else:
        tl.store(entries, total)


@triton.jit
def sums_kernel(
    inputs, gradients, weight, singly, found, groups, tokens, in_features, out_features, weight_rows, weight_columns,
    GROUP: tl.constexpr, WEIGHTED: tl.constexpr, OUT: tl.constexpr, IN: tl.constexpr, STEP: tl.constexpr,
    TMA: tl.constexpr,
):  # fmt: skip
    """One tile [OUT, IN] of a group's Σ gᵢ a program: its Σ(·)² and Σ|W ⊙ ·|; and Σ(·)² of the same tile of every gᵢ.

    inputs: [samples, tokens, features], or descriptors of blocks [1, STEP, IN] of them.
    gradients: of the outputs, likewise, or descriptors of blocks [1, STEP, OUT].
    """
    # Programs that run at the same time take one tile of several groups, so that W is read once.
    group = (tl.program_id(0) % groups).to(tl.int64)
    tile = tl.program_id(0) // groups
    tiles = tl.num_programs(0) // groups
    down, across = _place(tile, out_features, in_features, OUT, IN)
    # W is read before the products, which hide how long that takes; beside two tiles of products no registers are left.
    if WEIGHTED and GROUP == 1:
        w = _weights(weight, down, across, out_features, in_features, weight_rows, weight_columns, OUT, IN)
    whole = tl.zeros((OUT, IN), dtype=tl.float32)
    for i in range(GROUP):
        sample = group * GROUP + i
        total = whole if GROUP == 1 else tl.zeros((OUT, IN), dtype=tl.float32)
        for start in range(0, tokens, STEP):
            x = _rows(inputs, sample, start, across, tokens, in_features, STEP, IN, TMA)
            d = _rows(gradients, sample, start, down, tokens, out_features, STEP, OUT, TMA)
            total = tl.dot(tl.trans(d), x, total)
        if GROUP == 1:
            whole = total
        else:
            tl.store(singly + sample * tiles + tile, tl.sum(tl.sum(total * total, axis=1), axis=0))
            whole += total
    place = found + (group * tiles + tile) * 2
    tl.store(place, tl.sum(tl.sum(whole * whole, axis=1), axis=0))
    if WEIGHTED and GROUP > 1:
        w = _weights(weight, down, across, out_features, in_features, weight_rows, weight_columns, OUT, IN)
    if WEIGHTED:
        tl.store(place + 1, tl.sum(tl.sum(tl.abs(whole * w.to(tl.float32)), axis=1), axis=0))


@triton.jit
def columns_kernel(
    projected, gradients, singly, grouped, tokens, features, columns,
    GROUP: tl.constexpr, COLUMNS: tl.constexpr, WIDE: tl.constexpr, STEP: tl.constexpr,
):  # fmt: skip
    """One tile [WIDE, COLUMNS] of a group's gᵢΩ a program: each column's Σ(·)², for every sample and for Σ gᵢΩ."""
    tile = tl.program_id(0)
    group = tl.program_id(1).to(tl.int64)
    ks = tl.arange(0, COLUMNS)
    whole = tl.zeros((WIDE, COLUMNS), dtype=tl.float32)
    for i in range(GROUP):
        sample = group * GROUP + i
        total = tl.zeros((WIDE, COLUMNS), dtype=tl.float32)
        for start in range(0, tokens, STEP):
            x = _rows(projected, sample, start, 0, tokens, columns, STEP, COLUMNS, False)
            d = _rows(gradients, sample, start, tile * WIDE, tokens, features, STEP, WIDE, False)
            total = tl.dot(tl.trans(d), x, total)
        tl.store(singly + (sample * tl.num_programs(0) + tile) * COLUMNS + ks, tl.sum(total * total, axis=0))
        whole += total
    tl.store(grouped + (group * tl.num_programs(0) + tile) * COLUMNS + ks, tl.sum(whole * whole, axis=0))


@triton.jit
def _place(tile, out_features, in_features, OUT: tl.constexpr, IN: tl.constexpr):
    """The first row and column of a gradient that a tile covers."""
    across = tl.cdiv(in_features, IN)
    down = tl.cdiv(out_features, OUT)
    # Programs that run at the same time should read the same rows: eight rows of tiles at a time.
    band = tile // (8 * across)
    tall = min(down - band * 8, 8)
    return (band * 8 + (tile % (8 * across)) % tall) * OUT, ((tile % (8 * across)) // tall) * IN


@triton.jit
def _weights(
    weight, down, across, out_features, in_features, weight_rows, weight_columns, OUT: tl.constexpr, IN: tl.constexpr
):
    """A tile [OUT, IN] of W, with zeros beyond it."""
    rows = (down + tl.arange(0, OUT))[:, None].to(tl.int64)
    columns = (across + tl.arange(0, IN))[None, :].to(tl.int64)
    inside = (rows < out_features) & (columns < in_features)
    return tl.load(weight + rows * weight_rows + columns * weight_columns, mask=inside, other=0.0)


@triton.jit
def _rows(rows, sample, row, column, tokens, features, HIGH: tl.constexpr, WIDE: tl.constexpr, TMA: tl.constexpr):
    """A block [HIGH, WIDE] of a sample's rows, with zeros beyond its tokens and features."""
    if TMA:
        block = rows.load([sample.to(tl.int32), row, column]).reshape(HIGH, WIDE)
    else:
        down = row + tl.arange(0, HIGH)
        across = column + tl.arange(0, WIDE)
        base = rows + sample * tokens * features
        block = tl.load(
            base + down[:, None] * features + across[None, :],
            mask=(down < tokens)[:, None] & (across < features)[None, :], other=0.0,
        )  # fmt: skip
    return block
