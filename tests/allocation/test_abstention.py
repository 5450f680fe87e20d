"""Where nothing supports a departure the plan is uniform, and says why in numbers."""

import attrs
import pytest

from bert_profile import bert_profile
from layerlens_core.allocation.abstention import LEAST_SAMPLES
from layerlens_core.allocation.allocate import allocate
from layerlens_core.errors import FileError, PlanError
from layerlens_core.values.plan import Plan
from layerlens_core.values.profile import Evidence, Profile

SURE = attrs.evolve(
    bert_profile([1, 2, 3, 9], granularity="module"),
    samples=128,
    stability={"given": 0.9},
    module_stability={"given": 0.9},
    evidence=Evidence(advantage=0.5, error=0.1, samples=128, p=1e-6, by="likelihood"),
)


def plan(profile: Profile, **arguments) -> Plan:
    return allocate(profile, budget="params=r=4", margins=False, **arguments)


def test_where_everything_supports_it_the_default_departs_from_uniform():
    planned = plan(SURE)
    assert planned.abstained is None
    assert (planned.request.strategy, planned.request.abstain) == ("tempered", True)
    assert len(set(planned.sizes("lora").values())) > 2


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"samples": 4}, f"4 samples are fewer than {LEAST_SAMPLES}"),
        ({"module_stability": {"given": 0.31}}, "halves of the 128 samples order the modules alike by 0.31 only"),
        ({"module_stability": {}, "stability": {"given": 0.2}}, "alike by 0.20 only"),
        ({"module_stability": {}, "stability": {}}, "nothing is known of how stable the order by given is"),
        (
            {"evidence": Evidence(advantage=0.1, error=0.1, samples=128, p=0.16, by="likelihood")},
            "the labels may have nothing to do with the inputs: the model finds own answers likelier than permuted "
            "ones by 0.100 ± 0.100 nats (p = 0.160, 128 samples)",
        ),
        (
            {"evidence": Evidence(advantage=0.0, error=0.1, samples=64, p=0.5, by="likeness")},
            "samples of like labels are more alike than under permuted labels by 0.000 ± 0.100",
        ),
        (
            {"evidence": Evidence(advantage=-0.4, error=0.1, samples=9, p=1.0, by="warm-up")},
            "own labels are learned better than permuted ones by -0.400",
        ),
    ],
)
def test_what_does_not_support_it_is_named(changes, cause):
    profile = attrs.evolve(SURE, **changes)
    planned = plan(profile)
    assert cause in planned.abstained
    assert set(planned.sizes("lora").values()) == {4}
    assert all(decision.reason.startswith(f"abstained, as {planned.abstained}: ") for decision in planned.decisions)
    # It is the plan that was asked for, and nothing else, where that is insisted on.
    insisted = plan(profile, abstain=False)
    assert insisted.abstained is None
    assert insisted.decisions == plan(SURE).decisions


def test_scores_that_cannot_be_told_apart_support_nothing():
    equal = bert_profile([1.0] * 4)
    profile = attrs.evolve(SURE, scores=equal.scores, module_stability={})
    assert "no layer can be told from another" in plan(profile, granularity="layer").abstained


def test_a_strategy_that_was_chosen_abstains_only_where_it_is_told_to():
    profile = attrs.evolve(SURE, samples=4)
    assert plan(profile, strategy="budget").abstained is None
    told = plan(profile, strategy="budget", abstain=True)
    assert told.abstained is not None
    assert told.certificate is None
    assert set(told.sizes("lora").values()) == {4}


def test_uniform_never_abstains():
    assert plan(attrs.evolve(SURE, samples=4), strategy="uniform", abstain=True).abstained is None


def test_options_are_read_where_the_plan_abstains():
    with pytest.raises(PlanError, match="'temper' is a number"):
        plan(attrs.evolve(SURE, samples=4), options={"temper": "much"})


def test_a_plan_that_abstains_is_read_again_and_posed_alike(tmp_path):
    planned = plan(attrs.evolve(SURE, samples=4))
    planned.save(tmp_path)
    assert Plan.load(tmp_path) == planned


def test_the_evidence_is_read_again_and_has_to_be_possible(tmp_path):
    SURE.save(tmp_path)
    assert Profile.load(tmp_path) == SURE
    for wrong, message in (
        ({"error": -1.0}, "error of the evidence is -1"),
        ({"p": 1.5}, "the evidence has a p of 1.5"),
    ):
        attrs.evolve(SURE, evidence=attrs.evolve(SURE.evidence, **wrong)).save(tmp_path)
        with pytest.raises(FileError, match=message):
            Profile.load(tmp_path)
    attrs.evolve(SURE, module_stability={"other": 0.5}).save(tmp_path)
    with pytest.raises(FileError, match="there is a stability of modules of other"):
        Profile.load(tmp_path)
