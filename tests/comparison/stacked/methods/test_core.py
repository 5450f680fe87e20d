"""Stacked cores against one core after the other."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from comparison.stacked.methods.places import blocks, check, placed
from layerlens_core.comparison.stacked.methods.core import TRAINED, Core
from layerlens_core.comparison.stacked.methods.place import Pass
from layerlens_core.profiling.attribution.layout import Layout

#: By layout, the shape of a tensor of 2 tokens a sample, and a running arm's part of it.
LAYOUTS = {
    Layout(2, 0, "whole"): lambda rows: (rows, 2),
    Layout(2, 1, "whole"): lambda rows: (2, rows),
    Layout(1, 0, "outer"): lambda rows: (2 * rows,),
}
SHAPE = {"in_features": 6, "out_features": 7}


def bases(count, size, features, generator):
    """Orthonormal rows of several subspaces [count, size, features]."""
    noise = torch.randn(count, features, size, generator=generator, dtype=torch.float64)
    return torch.linalg.qr(noise).Q.mT.contiguous()


def core_place(sizes, running, generator, layouts, whose):
    count, size = max(whose) + 1, max(sizes)
    left, right = (bases(count, size, SHAPE[f"{side}_features"], generator) for side in ("out", "in"))
    return placed(Core, SHAPE, sizes, running, generator, layouts, left=left, right=right, whose=whose)


@given(
    block=blocks(), samples=st.integers(1, 3), layout=st.sampled_from(list(LAYOUTS)), subspaces=st.integers(1, 3),
)  # fmt: skip
def test_each_arm_gets_its_own_core_alone(block, samples, layout, subspaces):
    sizes, arms, seed = block
    generator = torch.Generator().manual_seed(seed)
    running = Pass(arms, samples)
    whose = torch.randint(subspaces, (len(sizes),), generator=generator).tolist()
    place = core_place(sizes, running, generator, {layout.dims: layout}, whose)
    rows = LAYOUTS[layout](running.count * samples)
    x = torch.randn(*rows, SHAPE["in_features"], generator=generator, dtype=torch.float64)
    y, g = (torch.randn(*rows, SHAPE["out_features"], generator=generator, dtype=torch.float64) for _ in range(2))
    alone = iter([arm for arm in range(*arms.indices(len(sizes))) if sizes[arm]])

    def formula(tensors, inputs, output):
        arm = next(alone)
        left, right = place.left[whose[arm], : sizes[arm]], place.right[whose[arm], : sizes[arm]]
        return output + 2.0 * inputs @ (left.mT @ tensors[TRAINED] @ right).mT

    check(place, formula, x, y, g, lambda tensor: tensor.chunk(running.count, dim=layout.dim), itself=False)
    assert next(alone, None) is None


@pytest.mark.parametrize("whose", [[0, 0], [0, 1]])
def test_a_model_in_few_bits_gets_cores_of_its_dtype(whose):
    generator = torch.Generator().manual_seed(0)
    layout = Layout(2, 0, "whole")
    wide = core_place([2, 3], Pass(slice(0, 2), 2), generator, {2: layout}, whose)
    place = Core(
        name="m", shape=SHAPE, sizes=wide.sizes, scale=2.0, layouts=wide.layouts, running=wide.running, whose=whose,
        **{side: getattr(wide, side).bfloat16() for side in ("left", "right")},
        **{of: {TRAINED: getattr(wide, of)[TRAINED].bfloat16()} for of in ("tensors", "gradients")},
    )  # fmt: skip
    x, y = (torch.randn(4, 2, features, generator=generator, dtype=torch.float64) for features in (6, 7))
    for narrow in (torch.bfloat16, torch.float32):  # normalised outputs may be wider than the model
        found = place.add(x.to(narrow), y.to(narrow))
        assert found.dtype == narrow
        torch.testing.assert_close(found.double(), wide.add(x, y), rtol=0.1, atol=0.1)
        of_inputs = place.receive(x.to(narrow), y.to(narrow))
        assert of_inputs.dtype == narrow
        torch.testing.assert_close(of_inputs.double(), wide.receive(x, y), rtol=0.1, atol=0.1)
