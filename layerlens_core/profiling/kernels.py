"""Triton kernels of `layerlens_core.profiling.fused`, which says what they are for and launches them."""

# mypy: disable-error-code="untyped-decorator, no-untyped-def"

import triton
import triton.language as tl


@triton.jit
def gram_kernel(
    rows, tiles, found, table, tokens, features, height, count,
    FUSED: tl.constexpr, BLOCK: tl.constexpr, STEP: tl.constexpr, EVEN: tl.constexpr,
):  # fmt: skip
    """One tile a program: of rows [units, height, features], stored, or multiplied with the stored one and summed."""
    tile = tl.program_id(0)
    unit = tl.program_id(1).to(tl.int64)
    first = tl.load(table + tile * 4)
    second = tl.load(table + tile * 4 + 1)
    left = tl.load(table + tile * 4 + 2) + tl.arange(0, BLOCK)
    right = tl.load(table + tile * 4 + 3) + tl.arange(0, BLOCK)
    columns = tl.arange(0, STEP)
    base = rows + unit * height * features
    a_rows = base + (first * tokens + left)[:, None].to(tl.int64) * features + columns[None, :]
    b_rows = base + (second * tokens + right)[:, None].to(tl.int64) * features + columns[None, :]
    a_there = (left < tokens)[:, None]
    b_there = (right < tokens)[:, None]
    total = tl.zeros((BLOCK, BLOCK), dtype=tl.float32)
    for start in range(0, features, STEP):
        if EVEN:
            a = tl.load(a_rows + start, mask=a_there, other=0.0)
            b = tl.load(b_rows + start, mask=b_there, other=0.0)
        else:
            inside = (columns + start < features)[None, :]
            a = tl.load(a_rows + start, mask=a_there & inside, other=0.0)
            b = tl.load(b_rows + start, mask=b_there & inside, other=0.0)
        total = tl.dot(a, tl.trans(b), total)
    place = unit * count + tile
    entries = tiles + place * BLOCK * BLOCK + tl.arange(0, BLOCK)[:, None] * BLOCK + tl.arange(0, BLOCK)[None, :]
    if FUSED:
        tl.store(found + place, tl.sum(tl.sum(total * tl.load(entries), axis=1), axis=0))
    else:
        tl.store(entries, total)


@triton.jit
def sums_kernel(
    inputs, gradients, weight, found, tokens, in_features, out_features, weight_rows, weight_columns,
    WEIGHTED: tl.constexpr, OUT: tl.constexpr, IN: tl.constexpr, STEP: tl.constexpr,
):  # fmt: skip
    """One tile [OUT, IN] of a unit's gradient a program: its Σ(·)² and Σ|W ⊙ ·|."""
    tile = tl.program_id(0)
    unit = tl.program_id(1).to(tl.int64)
    outs, ins = _place(tile, out_features, in_features, OUT, IN)
    total = _product(
        inputs + unit * tokens * in_features, gradients + unit * tokens * out_features, tokens, in_features,
        out_features, outs, ins, OUT, IN, STEP,
    )  # fmt: skip
    place = found + (unit * tl.num_programs(0) + tile) * 2
    _store_sums(
        place, total, weight, in_features, out_features, weight_rows, weight_columns, outs, ins, WEIGHTED
    )  # fmt: skip


@triton.jit
def group_sums_kernel(
    inputs, gradients, weight, singly, found, tokens, in_features, out_features, weight_rows, weight_columns,
    GROUP: tl.constexpr, WEIGHTED: tl.constexpr, OUT: tl.constexpr, IN: tl.constexpr, STEP: tl.constexpr,
):  # fmt: skip
    """One tile [OUT, IN] of every gᵢ of a group a program: its Σ(·)², and Σ(·)² and Σ|W ⊙ ·| of that of Σ gᵢ."""
    tile = tl.program_id(0)
    unit = tl.program_id(1).to(tl.int64)
    outs, ins = _place(tile, out_features, in_features, OUT, IN)
    whole = tl.zeros((OUT, IN), dtype=tl.float32)
    for i in range(GROUP):
        sample = unit * GROUP + i
        total = _product(
            inputs + sample * tokens * in_features, gradients + sample * tokens * out_features, tokens, in_features,
            out_features, outs, ins, OUT, IN, STEP,
        )  # fmt: skip
        tl.store(singly + sample * tl.num_programs(0) + tile, tl.sum(tl.sum(total * total, axis=1), axis=0))
        whole += total
    place = found + (unit * tl.num_programs(0) + tile) * 2
    _store_sums(
        place, whole, weight, in_features, out_features, weight_rows, weight_columns, outs, ins, WEIGHTED
    )  # fmt: skip


@triton.jit
def columns_kernel(
    projected, gradients, singly, together, tokens, features, columns,
    GROUP: tl.constexpr, COLUMNS: tl.constexpr, WIDE: tl.constexpr, STEP: tl.constexpr,
):  # fmt: skip
    """One tile [WIDE, COLUMNS] of every gᵢΩ of a group a program: column sums of squares, and those of Σ gᵢΩ."""
    tile = tl.program_id(0)
    unit = tl.program_id(1).to(tl.int64)
    outs = tile * WIDE + tl.arange(0, WIDE)
    ks = tl.arange(0, COLUMNS)
    whole = tl.zeros((WIDE, COLUMNS), dtype=tl.float32)
    for i in range(GROUP):
        sample = unit * GROUP + i
        total = _product(
            projected + sample * tokens * columns, gradients + sample * tokens * features, tokens, columns, features,
            outs, ks, WIDE, COLUMNS, STEP,
        )  # fmt: skip
        tl.store(singly + (sample * tl.num_programs(0) + tile) * COLUMNS + ks, tl.sum(total * total, axis=0))
        whole += total
    tl.store(together + (unit * tl.num_programs(0) + tile) * COLUMNS + ks, tl.sum(whole * whole, axis=0))


@triton.jit
def _place(tile, out_features, in_features, OUT: tl.constexpr, IN: tl.constexpr):
    """The rows and columns of a gradient that a tile covers."""
    across = tl.cdiv(in_features, IN)
    down = tl.cdiv(out_features, OUT)
    # Programs that run together should read the same rows: eight rows of tiles at a time.
    band = tile // (8 * across)
    tall = min(down - band * 8, 8)
    outs = (band * 8 + (tile % (8 * across)) % tall) * OUT + tl.arange(0, OUT)
    ins = ((tile % (8 * across)) // tall) * IN + tl.arange(0, IN)
    return outs, ins


@triton.jit
def _product(
    inputs, gradients, tokens, in_features, out_features, outs, ins,
    OUT: tl.constexpr, IN: tl.constexpr, STEP: tl.constexpr,
):  # fmt: skip
    """A tile [OUT, IN] of gradientsᵀ inputs, of [tokens, out] and [tokens, in]."""
    steps = tl.arange(0, STEP)
    x = inputs + steps[:, None] * in_features + ins[None, :]
    d = gradients + steps[:, None] * out_features + outs[None, :]
    total = tl.zeros((OUT, IN), dtype=tl.float32)
    for start in range(0, tokens, STEP):
        there = (steps + start < tokens)[:, None]
        right = tl.load(x, mask=there & (ins < in_features)[None, :], other=0.0)
        left = tl.load(d, mask=there & (outs < out_features)[None, :], other=0.0)
        total = tl.dot(tl.trans(left), right, total)
        x += STEP * in_features
        d += STEP * out_features
    return total


@triton.jit
def _store_sums(
    place, total, weight, in_features, out_features, weight_rows, weight_columns, outs, ins, WEIGHTED: tl.constexpr
):
    """Store a tile's Σ(·)², and beside it its Σ|W ⊙ ·|."""
    tl.store(place, tl.sum(tl.sum(total * total, axis=1), axis=0))
    if WEIGHTED:
        inside = (outs < out_features)[:, None] & (ins < in_features)[None, :]
        at = outs[:, None].to(tl.int64) * weight_rows + ins[None, :].to(tl.int64) * weight_columns
        w = tl.load(weight + at, mask=inside, other=0.0).to(tl.float32)
        tl.store(place + 1, tl.sum(tl.sum(tl.abs(total * w), axis=1), axis=0))
