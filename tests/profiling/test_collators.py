"""Batches as the collators of transformers and TRL leave them: their documents' own scores, or refused by name."""

import pytest

from sweep.collated import COLLATED, held


@pytest.mark.parametrize("case", COLLATED, ids=lambda case: case.name)
def test_what_a_collator_leaves_is_right_or_refused_by_name(case):
    outcome, said = held(case)
    assert outcome in (("right",) if case.packed else ("right", "refused")), (outcome, said)
